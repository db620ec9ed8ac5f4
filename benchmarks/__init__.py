"""Benchmarks: each module is a script that prints one table; none is a test.

All of them: `python -m benchmarks`.
"""
