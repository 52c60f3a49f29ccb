"""The scheduler and the policies of the engine on a clock that is made up: any workload, at any scale, without a model."""
