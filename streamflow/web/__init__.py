"""What a supervisor shows over HTTP: /metrics, /healthz, /readyz, /status. Reads snapshots; decides nothing."""
