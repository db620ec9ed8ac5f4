"""What DSPy's optimisers were run with, and ours are: see benchmarks/dspy_choices.py, which wrote choices.json."""

RANDOM = {
    "one": {
        "program": "One",
        "settings": {"max_bootstrapped_demos": 3, "max_labeled_demos": 5, "num_candidate_programs": 6},
        "train": (0, 30),
        "val": (100, 120),
        "compile": {},
    },
    "two predictors, on the trainset": {
        "program": "Two",
        "settings": {"max_bootstrapped_demos": 4, "max_labeled_demos": 4, "num_candidate_programs": 5},
        "train": (0, 40),
        "val": None,
        "compile": {"labeled_sample": False},
    },
    "some seeds, until a score": {
        "program": "One",
        "settings": {"max_bootstrapped_demos": 2, "num_candidate_programs": 8, "stop_at_score": 60.0},
        "train": (0, 30),
        "val": (100, 120),
        "compile": {"restrict": [-2, 1, 2, 4, 5, 7]},
    },
}

COPRO = {
    "one": {"program": "One", "settings": {"breadth": 9, "depth": 3, "track_stats": True}, "train": (0, 30)},
    "two predictors": {"program": "Two", "settings": {"breadth": 4, "depth": 3, "track_stats": True}, "train": (0, 25)},
    "one round": {"program": "Two", "settings": {"breadth": 6, "depth": 1}, "train": (0, 40)},
}

MIPRO = {
    "light": {
        "program": "One",
        "settings": {"auto": "light"},
        "train": (0, 30),
        "val": (100, 160),
        "compile": {},
    },
    "two predictors": {
        "program": "Two",
        "settings": {"auto": None, "num_candidates": 5, "max_bootstrapped_demos": 3, "max_labeled_demos": 5},
        "train": (0, 60),
        "val": None,
        "compile": {"num_trials": 14, "minibatch_size": 12, "minibatch_full_eval_steps": 4, "seed": 3},
    },
    "zero shot": {
        "program": "One",
        "settings": {"auto": None, "num_candidates": 4, "max_bootstrapped_demos": 0, "max_labeled_demos": 0},
        "train": (0, 12),
        "val": (100, 120),
        "compile": {"num_trials": 13, "minibatch": False, "view_data_batch_size": 2, "tip_aware_proposer": False},
    },
    "labelled": {
        "program": "Two",
        "settings": {"auto": "light", "max_bootstrapped_demos": 2, "max_labeled_demos": 0, "seed": 7},
        "train": (0, 100),
        "val": None,
        "compile": {"program_aware_proposer": False, "fewshot_aware_proposer": False},
    },
}

SIMBA = {
    "one": {
        "program": "One",
        "settings": {"bsize": 8, "num_candidates": 4, "max_steps": 4, "max_demos": 2},
        "train": (0, 20),
        "compile": {},
    },
    "two predictors": {
        "program": "Two",
        "settings": {"bsize": 10, "num_candidates": 3, "max_steps": 3, "max_demos": 3},
        "train": (0, 24),
        "compile": {"seed": 5},
    },
    "rules": {
        "program": "Two",
        "settings": {"bsize": 6, "num_candidates": 3, "max_steps": 3, "max_demos": 0},
        "train": (0, 18),
        "compile": {"seed": 1},
    },
}

GEPA = {
    "one": {
        "program": "One",
        "settings": {"max_metric_calls": 300},
        "train": (0, 20),
        "val": (100, 116),
    },
    "two predictors, merged": {
        "program": "Two",
        "settings": {"max_metric_calls": 900, "seed": 4, "reflection_minibatch_size": 4},
        "train": (0, 25),
        "val": (100, 112),
    },
    "all at once, on the trainset": {
        "program": "Two",
        "settings": {"max_full_evals": 25, "component_selector": "all", "candidate_selection_strategy": "current_best"},
        "train": (0, 15),
        "val": None,
    },
    "light": {"program": "One", "settings": {"auto": "light", "seed": 1}, "train": (0, 30), "val": (100, 120)},
    "answers that cannot be read": {
        "program": "Two",
        "settings": {"max_metric_calls": 400, "add_format_failure_as_feedback": True},
        "train": (0, 16),
        "val": (100, 112),
        "unclear": True,
    },
    "such answers are left out": {
        "program": "One",
        "settings": {"max_metric_calls": 300, "seed": 2},
        "train": (0, 16),
        "val": (100, 112),
        "unclear": True,
    },
}
