"""A cache of answers: what it keeps and what it gives up, and by which key an answer is found; pure."""
