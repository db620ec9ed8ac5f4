"""Pool: workers of one kind that are lent and given back."""
