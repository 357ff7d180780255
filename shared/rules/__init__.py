"""What may be written, checked by the gateway before the log and by projections after it. Pure; only ever looser."""
