"""Tasks: functions that run once, in processes of their own, under a task supervisor."""
