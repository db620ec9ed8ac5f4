"""Workflows - steps over one mapping, durable where asked - and fallbacks: what is tried when something fails."""
