"""From results to pages: tables, one HTML page, and the film of an episode on the grid's map."""
