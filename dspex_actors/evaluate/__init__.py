"""Evaluation: datasets, the plan of who works on what, results and reports."""
