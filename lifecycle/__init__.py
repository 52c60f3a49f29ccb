"""What happens before serving: a language model from nothing to a deployed version, one package per stage."""
