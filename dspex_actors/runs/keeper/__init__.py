"""The keeper of runs: the only writer of the journal, and who starts and resumes evaluators."""
