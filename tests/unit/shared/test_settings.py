"""Settings say which variable is wrong, and survive the way to another process."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from shared.settings import SettingError, Settings, is_secret, load_settings, without_settings


def test_defaults_need_no_environment():
    assert load_settings({}).lease_s == 60


def test_values_are_read_by_their_type():
    settings = load_settings(
        {
            "REELMAP_LEASE_S": "9.5",
            "REELMAP_HEARTBEAT_S": "3",
            "REELMAP_HUB": "no",
            "REELMAP_WEIGHTS_DIR": "/w",
            "REELMAP_OWN_MODELS": '{"tiny": {"library": "transformers", "weights": "vit"}}',
        }
    )
    assert (settings.lease_s, settings.hub, settings.weights_dir) == (9.5, False, Path("/w"))
    assert settings.own_models["tiny"]["weights"] == "vit"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("REELMAP_SENT_WINDOW", "many", "a whole number"),
        ("REELMAP_HUB", "perhaps", "yes or no"),
        ("REELMAP_OWN_MODELS", "[1]", "a JSON object"),
        ("REELMAP_FETCH_PORTS", "80;443", "ports with commas between them, or any"),
        ("REELMAP_FETCH_PORTS", "65536", "ports with commas between them, or any"),
        ("REELMAP_FETCH_PORTS", "", "ports with commas between them, or any"),
    ],
)
def test_an_error_names_variable_value_and_what_is_expected(variable, value, expected):
    with pytest.raises(SettingError, match=f"{variable} is .*; expected {expected}"):
        load_settings({variable: value})


def test_an_empty_path_is_none_and_not_where_the_process_stands():
    assert load_settings({"REELMAP_BLOBS_FOLDER": ""}).blobs_folder is None


def test_ports_are_read_as_numbers():
    assert Settings().fetch_port_numbers == {80, 443}
    assert Settings(fetch_ports=" 8080, 80 ").fetch_port_numbers == {80, 8080}
    assert Settings(fetch_ports="any").fetch_port_numbers is None


def test_a_mistyped_name_is_refused():
    with pytest.raises(SettingError, match="REELMAP_LEASES_S is not a setting"):
        load_settings({"REELMAP_LEASES_S": "60"})


def test_the_folder_of_test_data_is_no_setting_and_no_error():
    load_settings({"REELMAP_DATA_DIR": "/data"})


def test_a_database_url_without_driver_is_refused():
    with pytest.raises(SettingError, match=r"must start with postgresql\+psycopg2://"):
        load_settings({"REELMAP_DATABASE_URL": "postgresql://localhost/reelmap"})


def test_a_heartbeat_that_can_miss_the_lease_is_refused():
    with pytest.raises(SettingError, match="half of REELMAP_LEASE_S"):
        load_settings({"REELMAP_LEASE_S": "10", "REELMAP_HEARTBEAT_S": "5"})


def test_another_process_reads_the_same_settings():
    settings = Settings(
        database_url="postgresql+psycopg2:///reelmap",
        blobs_folder=Path("/blobs"),
        allow_private_hosts=True,
        own_models={"tiny": {"library": "transformers", "weights": "vit"}},
        heartbeat_s=5,
    )
    assert load_settings(settings.to_environ()) == settings


@pytest.mark.parametrize(("variable", "value"), [("REELMAP_ACCESS", "anybody"), ("REELMAP_COOKIE_SECRET", "too short")])
def test_access_that_is_none_is_refused(variable, value):
    with pytest.raises(SettingError, match=variable) as refused:
        load_settings({variable: value})
    assert "too short" not in str(refused.value).replace("is too short", "")


def test_secrets_are_not_shown_with_the_settings():
    settings = load_settings({"REELMAP_COOKIE_SECRET": "c" * 40, "REELMAP_KEY": "rmk_secret"})
    assert "cccc" not in repr(settings) and "rmk_secret" not in repr(settings)
    assert load_settings(settings.to_environ()) == settings


def test_a_secret_is_read_from_a_file_without_the_line_end(tmp_path):
    (tmp_path / "key").write_text("rk_secret\n")
    assert load_settings({"REELMAP_KEY_FILE": str(tmp_path / "key")}).key == "rk_secret"


def test_what_is_no_secret_is_not_read_from_a_file(tmp_path):
    with pytest.raises(SettingError, match="REELMAP_LEASE_S_FILE is not a setting"):
        load_settings({"REELMAP_LEASE_S_FILE": str(tmp_path / "lease")})


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b" \n", "is empty"), (b"\xff\xfe", "no text")]
)
def test_a_secrets_file_that_gives_no_secret_is_named(tmp_path, content, reason):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=f"REELMAP_KEY_FILE names {path}, which .*{reason}"):
        load_settings({"REELMAP_KEY_FILE": str(path)})


def test_a_secret_given_twice_is_refused(tmp_path):
    (tmp_path / "key").write_text("a")
    with pytest.raises(SettingError, match="REELMAP_KEY_FILE and REELMAP_KEY are both set"):
        load_settings({"REELMAP_KEY_FILE": str(tmp_path / "key"), "REELMAP_KEY": "b"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("reelmap@db/reelmap", "reelmap:p%40%2F%3A%25%C3%BC@db/reelmap"),
        ("reelmap:old@db:5433/reelmap?sslmode=require", "reelmap:p%40%2F%3A%25%C3%BC@db:5433/reelmap?sslmode=require"),
    ],
)
def test_passwords_become_part_of_the_address(before, after):
    odd = "p@/:%ü"
    settings = load_settings(
        {
            "REELMAP_DATABASE_URL": f"postgresql+psycopg2://{before}",
            "REELMAP_DATABASE_PASSWORD": odd,
            "REELMAP_REDIS_URL": "redis://redis:6379/0",
            "REELMAP_REDIS_PASSWORD": "r",
        }
    )
    assert settings.database_url == f"postgresql+psycopg2://{after}"
    assert make_url(settings.database_url).password == odd
    assert settings.redis_url == "redis://:r@redis:6379/0"
    assert load_settings(settings.to_environ()) == settings


def test_a_password_without_an_address_is_refused():
    with pytest.raises(SettingError, match="REELMAP_REDIS_PASSWORD is set, and REELMAP_REDIS_URL"):
        load_settings({"REELMAP_REDIS_PASSWORD": "r"})


def test_no_secret_is_shown():
    secrets = {field.name: "hush" * 8 for field in fields(Settings) if is_secret(field)}
    assert "hush" not in repr(Settings(**secrets))


def test_settings_of_ours_are_not_handed_on():
    assert without_settings({"REELMAP_KEY_FILE": "/k", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("pictures", ("pictures", "")),
        ("pictures/", ("pictures", "")),
        ("pictures/reelmap/one", ("pictures", "reelmap/one/")),
        ("pictures/reelmap/", ("pictures", "reelmap/")),
        ("", None),
    ],
)
def test_a_place_is_a_bucket_and_a_prefix(text, place):
    assert load_settings({"REELMAP_BLOBS_BUCKET": text}).blobs_place == place


@pytest.mark.parametrize(
    "text", ["/pictures", "Pictures", "pictures//a", "pictures/../a", "s3://pictures", "a b", "-ab", "a..b"]
)
def test_what_is_no_place_is_refused(text):
    with pytest.raises(SettingError, match=r"REELMAP_BLOBS_BUCKET is .*; expected the name of a bucket"):
        load_settings({"REELMAP_BLOBS_BUCKET": text})


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://minio", "http://", "http://minio/bucket"])
def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(SettingError, match=r"REELMAP_S3_ENDPOINT is .*; expected http"):
        load_settings({"REELMAP_S3_ENDPOINT": endpoint})


def test_half_a_pair_of_keys_is_refused():
    with pytest.raises(SettingError, match="set both, or neither"):
        load_settings({"REELMAP_S3_ACCESS_KEY": "AKIA"})


def test_sources_are_places_with_commas_between():
    settings = load_settings({"REELMAP_S3_SOURCES": " shared/videos/, archive,other/a/b "})
    assert settings.s3_source_places == (("shared", "videos/"), ("archive", ""), ("other", "a/b/"))
    assert load_settings({}).s3_source_places == ()


@pytest.mark.parametrize("text", ["a,,b", "bucket/../x", "s3://bucket", "*", "bucket/*"])
def test_what_is_no_list_of_sources_is_refused(text):
    with pytest.raises(SettingError, match=r"REELMAP_S3_SOURCES is .*; expected buckets"):
        load_settings({"REELMAP_S3_SOURCES": text})


@pytest.mark.parametrize("sources", ["pictures", "pictures/reelmap", "other, pictures/reelmap/uploads"])
def test_what_all_projects_uploaded_is_no_source(sources):
    with pytest.raises(SettingError, match="where the pictures and uploads of all projects are"):
        load_settings({"REELMAP_BLOBS_BUCKET": "pictures/reelmap", "REELMAP_S3_SOURCES": sources})
    load_settings({"REELMAP_BLOBS_BUCKET": "pictures/reelmap", "REELMAP_S3_SOURCES": "pictures/reelmap-videos"})
