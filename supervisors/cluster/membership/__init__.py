"""Who belongs to the cluster, who is suspect, who is down."""
