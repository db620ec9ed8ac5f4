"""Events: what happened, as typed values; where they are kept is `dspex_actors.observe`'s concern."""
