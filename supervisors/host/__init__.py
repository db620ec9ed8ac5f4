"""This machine: its processes and their deaths, meters, log files, reports, and the settings of a node on it."""
