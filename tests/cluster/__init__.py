"""A package, so that its cluster ends before other tests start a Ray of their own."""
