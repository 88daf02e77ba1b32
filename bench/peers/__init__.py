"""Who takes part: gateways and clients, set up alike and run one after the other."""
