"""Process groups: named groups of processes, as Erlang's `pg`."""
