"""MIPROv2: instructions that an LM proposes and sets of demos, the best combination found by Bayesian optimisation."""
