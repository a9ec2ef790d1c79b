"""From records to verdicts: packs, requests, retries, dead letters, within a budget of memory."""
