"""The `dspex` command: one module per group of commands; `main` knows where each is."""
