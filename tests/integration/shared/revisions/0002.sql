-- Rows of the tables that version 0002 added.
INSERT INTO api_keys (id, project_id, name, role, prefix, sha256, last_used_at, revoked_at) VALUES
  ('f0000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'ünïcode "key"', 'writer', '01234567',
   'abc', '2026-01-31 12:00:00+00', NULL),
  ('f0000000-0000-0000-0000-000000000002', '10000000-0000-0000-0000-000000000001', 'gone', 'admin', '89abcdef', 'def',
   NULL, '2026-01-31 12:00:00+00');
