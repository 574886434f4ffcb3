"""Constructor injection with lifetimes, scopes and one report of every fault."""
