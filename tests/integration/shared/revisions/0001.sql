-- Rows of every table, as version 0001 writes them.
INSERT INTO projects (id, name) VALUES ('10000000-0000-0000-0000-000000000001', 'birds');
INSERT INTO jobs (id, project_id, name, state, round, models, key_frames, clustering, started_at, finished_at) VALUES
  ('20000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'ünïcode "job"', 'partly_failed', 2,
   '{hog_color,vit_mae_base}', '{"strategy": "shots", "threshold": 0.5}', '{"algorithm": "kmeans", "n_clusters": 2}',
   '2026-01-31 12:00:00+00', '2026-01-31 12:05:00.123456+00'),
  ('20000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', '', 'running', 1,
   '{hog_color}', '{"strategy": "uniform", "every_s": 1.0}', '{}', '2026-01-31 12:00:00+00', NULL);
INSERT INTO videos (id, project_id, sha256, size_bytes) VALUES
  ('30000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'abc', 5000000000);
INSERT INTO extractions
  (id, video_id, recipe, settings, frames, duration_s, facts, shots, damaged_packets, key_frame_count) VALUES
  ('40000000-0000-0000-0000-000000000001', '30000000-0000-0000-0000-000000000001', 'recipe', '{"strategy": "shots"}',
   300, 12.012, '{"codec": "h264"}', '[[0, 300, 0.0, 12.012]]', 1, 2);
INSERT INTO sources (id, job_id, position, url, host, title, video_id, extraction_id) VALUES
  ('50000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000001', 0, 'https://example.org/a.mp4',
   'example.org', 'A film', '30000000-0000-0000-0000-000000000001', '40000000-0000-0000-0000-000000000001'),
  ('50000000-0000-0000-0000-000000000002', '20000000-0000-0000-0000-000000000001', 1, 'upload:70000000', NULL, NULL,
   NULL, NULL);
INSERT INTO key_frames
  (id, extraction_id, position, frame_index, time_s, pts, shot_index, width_px, height_px, blob, small_blob, repeats)
VALUES
  ('60000000-0000-0000-0000-000000000001', '40000000-0000-0000-0000-000000000001', 0, 10, 0.4004, 36036, 0, 960, 540,
   'pictures/4/10.jpg', 'pictures/4/10-small.jpg', '[[3.5, 4.25]]'),
  ('60000000-0000-0000-0000-000000000002', '40000000-0000-0000-0000-000000000001', 1, 200, 8.008, NULL, 0, 960, 540,
   'pictures/4/200.jpg', 'pictures/4/200-small.jpg', '[]');
INSERT INTO models (name, dimension, fingerprint, loaded_at, problem, problem_at) VALUES
  ('hog_color', 4, 'f1', '2026-01-31 12:00:00+00', NULL, NULL),
  ('vit_mae_base', NULL, NULL, NULL, 'its weights are missing', '2026-01-31 12:00:00+00');
INSERT INTO embeddings (key_frame_id, model, vector) VALUES
  ('60000000-0000-0000-0000-000000000001', 'hog_color', '[0.1,-2.5,3e-07,1]'),
  ('60000000-0000-0000-0000-000000000002', 'hog_color', '[0,0,0.33333334,-1]');
INSERT INTO clusterings
  (id, job_id, round, model, settings, settings_key, asked, key_frame_count, complete, n_clusters_asked,
   n_clusters_used, seed, inertia, silhouette, noise_count, evidence, notes) VALUES
  ('80000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000001', 2, 'hog_color', '{}', 'key', false,
   2, true, 'auto', 2, 4294967296, 1.5, 0.25, 1, '[[2, 0.25]]', '["a sentence"]'),
  ('80000000-0000-0000-0000-000000000002', '20000000-0000-0000-0000-000000000001', 2, 'hog_color', '{}', 'key', true,
   NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO clusters
  (id, clustering_id, label, size, video_count, mean_distance, centroid, scaled_centroid, medoid_id) VALUES
  ('90000000-0000-0000-0000-000000000001', '80000000-0000-0000-0000-000000000001', 0, 1, 1, 0.5, '[0.1,-2.5,3e-07,1]',
   '[1,2,3,4]', '60000000-0000-0000-0000-000000000001');
INSERT INTO assignments (clustering_id, key_frame_id, label, distance) VALUES
  ('80000000-0000-0000-0000-000000000001', '60000000-0000-0000-0000-000000000001', 0, 0.5),
  ('80000000-0000-0000-0000-000000000001', '60000000-0000-0000-0000-000000000002', -1, NULL);
INSERT INTO queries (id, project_id, model, blob, vector) VALUES
  ('a0000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'hog_color', 'queries/a', '[1,2,3,4]');
INSERT INTO uploads (id, project_id, file_name, size_bytes, sha256, blob) VALUES
  ('70000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'film.mp4', 7, 'def', 'uploads/7');
INSERT INTO idempotency_keys (project_id, key, fingerprint, status, location, body) VALUES
  ('10000000-0000-0000-0000-000000000001', 'once', 'ghi', 202, '/api/v1/jobs/2', '{"id": "2"}');
INSERT INTO tasks
  (job_id, stage, queue, state, attempt, attempts_allowed, sent_at, claimed_at, lease_until, owner, finished_at,
   error_kind, error, source_id, host, video_id, model, chunk, clustering_id, query_id) VALUES
  ('20000000-0000-0000-0000-000000000001', 'keyframes', 'keyframes', 'succeeded', 1, 3, now(), now(), NULL, NULL, now(),
   NULL, NULL, '50000000-0000-0000-0000-000000000001', 'example.org', NULL, NULL, NULL, NULL, NULL),
  ('20000000-0000-0000-0000-000000000001', 'keyframes', 'keyframes', 'failed', 3, 3, now(), now(), NULL, NULL, now(),
   'not_found', 'it is not there', '50000000-0000-0000-0000-000000000002', NULL, NULL, NULL, NULL, NULL, NULL),
  ('20000000-0000-0000-0000-000000000001', 'embedding', 'embedding', 'cancelled', 0, 3, NULL, NULL, NULL, NULL, now(),
   NULL, NULL, NULL, NULL, '30000000-0000-0000-0000-000000000001', 'vit_mae_base', 0, NULL, NULL),
  ('20000000-0000-0000-0000-000000000001', 'clustering', 'clustering', 'running', 1, 3, now(), now(), now(), 'host:1',
   NULL, NULL, NULL, NULL, NULL, NULL, 'hog_color', NULL, '80000000-0000-0000-0000-000000000001', NULL),
  (NULL, 'embedding', 'query', 'queued', 0, 3, now(), NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL, 'hog_color', NULL, NULL, 'a0000000-0000-0000-0000-000000000001');
