"""MIPROv2 and SIMBA on a real node: whatever is killed in the middle, they choose what DSPy chose."""

import subprocess
import sys
from pathlib import Path

import optimised_kit
import pytest
from e2e_kit import Background, lines, until
from optimised_kit import CHOICES, Booked, chosen

import dspex_actors as dspex

#: Requests of an undisturbed run, one after the other; what bootstraps run ahead of it.
ASKED = {"mipro": (478, 14), "simba": (241, 0)}


@pytest.mark.soak
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("what", "case"), [("mipro", "light"), ("simba", "one")])
def test_whatever_is_killed_it_goes_on_chooses_as_dspy_and_asks_little_twice(shared_host, tmp_path, what, case):
    book, (undisturbed, ahead) = tmp_path / "book", ASKED[what]

    def asked():
        return lines(book)

    script = Path(__file__).parent / "scripted_run.py"
    command = [sys.executable, script, str(shared_host.home), what, case, str(book), f"killed {what}"]
    with subprocess.Popen(command) as program:
        try:
            until(lambda: asked() > 0.2 * undisturbed or program.poll() is not None, 120)
            assert program.poll() is None
        finally:
            program.kill()
    with dspex.connect(home=shared_host.home, lm=Booked(str(book), 0.02)) as system:
        _, compile_ = getattr(optimised_kit, what)(
            case, run_id=f"killed {what}", display_progress=False, max_in_flight=4, system=None
        )
        going_on = Background(compile_)
        for share, part in ((0.4, "worker-"), (0.6, "run:")):
            until(lambda least=share * undisturbed: asked() > least, 120)
            until(lambda part=part: shared_host.kills(part, system.node) or not going_on.alive, 120)
        best = going_on.result(170)
    theirs = CHOICES[what][case]
    assert chosen(best) == theirs["chosen"]
    # At most eight runs with four examples each are in flight when something is killed.
    assert undisturbed <= asked() <= undisturbed + ahead + 3 * 8 * 4
