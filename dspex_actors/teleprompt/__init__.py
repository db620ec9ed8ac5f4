"""Optimisers: programs in, better programs out."""

from dspex_actors.teleprompt.adaptive_optimizer import AdaptiveOptimizer
from dspex_actors.teleprompt.bootstrap import BootstrapFewShot
from dspex_actors.teleprompt.copro import COPRO
from dspex_actors.teleprompt.distributed_bootstrap import DistributedBootstrap
from dspex_actors.teleprompt.ensemble import Ensemble
from dspex_actors.teleprompt.finetune.optimizer import BootstrapFinetune
from dspex_actors.teleprompt.gepa.optimizer import GEPA
from dspex_actors.teleprompt.knn_few_shot import KNNFewShot
from dspex_actors.teleprompt.labeled import LabeledFewShot
from dspex_actors.teleprompt.mipro.optimizer import MIPROv2
from dspex_actors.teleprompt.optimizing import optimize
from dspex_actors.teleprompt.random_search import BootstrapFewShotWithRandomSearch
from dspex_actors.teleprompt.simba.optimizer import SIMBA

__all__ = [
    "COPRO",
    "GEPA",
    "SIMBA",
    "AdaptiveOptimizer",
    "BootstrapFewShot",
    "BootstrapFewShotWithRandomSearch",
    "BootstrapFinetune",
    "DistributedBootstrap",
    "Ensemble",
    "KNNFewShot",
    "LabeledFewShot",
    "MIPROv2",
    "optimize",
]
