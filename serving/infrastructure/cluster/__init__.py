"""The engine on several machines, or several times on one, through Ray: `--set replicas=N`. Ray is imported only then."""
