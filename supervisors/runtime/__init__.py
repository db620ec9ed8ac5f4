"""What runs supervisors and servers as processes; the only place that knows Thespian."""
