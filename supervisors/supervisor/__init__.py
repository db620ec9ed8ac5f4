"""The supervisor's decisions as a pure state machine: who is started, restarted and stopped, when, in which order."""
