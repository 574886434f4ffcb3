"""A unit of work: identity map, minimal statements, versions, rollback, retry."""
