"""Use cases and the ports they need. Knows the domain, and no library but the standard one."""
