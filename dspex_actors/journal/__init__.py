"""The journal: runs, results and events of one node in one SQLite file, with one writer."""
