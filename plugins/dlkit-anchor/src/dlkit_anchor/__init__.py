"""A family of teachers for dlkit, which finds its parts by their entry points."""
