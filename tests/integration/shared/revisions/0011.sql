-- Attempts, as version 0011 writes them.
INSERT INTO task_attempts (task_id, attempt, owner, started_at, outcome, error_kind, error)
SELECT id, 1, 'worker-1:42', '2026-01-31 12:00:00+00', 'lost', 'worker_lost', 'the worker stopped answering' FROM tasks
LIMIT 1;
