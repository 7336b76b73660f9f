//! What the server reads: bodies of requests, and the configuration file.

use std::str;

use keyway_server::http::fuzzing::{KINDS, body};

use crate::bytes::Bytes;
use crate::target::Target;

/// The body of a request: which one, and its JSON.
pub(crate) const BODY: Target = Target {
    name: "body",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let kind = usize::from(bytes.byte()) % KINDS;
        body(kind, bytes.rest());
    },
    longest: 2_048,
    inputs: 1_000_000,
    // The numbers are places in `keyway_server::http::fuzzing`.
    seeds: &[
        (
            "a connection",
            concat!(
                "\0",
                r#"{"name":"n","provider_type":"p","settings":{"token":"t","a":"b"},"cache_ttl_seconds":300,"rate_limit_tier":null}"#
            ),
        ),
        (
            "changes of a connection",
            concat!(
                "\u{1}",
                r#"{"id":"25290e80-bbd5-41b3-861e-dea30cc26e27","name":"n","read_only":true,"rate_limit_tier":"business"}"#
            ),
        ),
        (
            "a rotation",
            concat!(
                "\u{2}",
                r#"{"entry_id":"25290e80-bbd5-41b3-861e-dea30cc26e27","length":24,"lowercase":true,"symbols":"!"}"#
            ),
        ),
        ("an abandoned rotation", concat!("\u{3}", r#"{"discard_password":true}"#)),
        ("a retry", concat!("\u{4}", r#"{"overwrite":null}"#)),
        (
            "what to resolve",
            concat!(
                "\u{5}",
                r#"{"permissioned_user_id":"a","domain":"https://acme.com","fields":["password","one_time_code"],"further":["f"],"min_seconds_left":5}"#
            ),
        ),
        ("a lease", concat!("\u{6}", r#"{"id":"25290e80-bbd5-41b3-861e-dea30cc26e27","lease":"l","seconds":60}"#)),
        ("the end of a lease", concat!("\u{7}", r#"{"id":"25290e80-bbd5-41b3-861e-dea30cc26e27","lease":"l"}"#)),
        (
            "changes of an entry",
            concat!(
                "\u{8}",
                r#"{"id":"25290e80-bbd5-41b3-861e-dea30cc26e27","secret_provider_id":null,"secret_ref":null,"user_alias":"x"}"#
            ),
        ),
        ("an entry's name", concat!("\u{a}", r#"{"permissioned_user_id":"a","domain":"https://acme.com","other":1}"#)),
        (
            "an entry",
            concat!(
                "\u{9}",
                r#"{"permissioned_user_id":"a","domain":"https://acme.com","passkey":false,"tfa_method":"SMS","allow_multiple_sessions":true,"max_concurrency":2,"cookies":[{"name":"c"}],"local_storage":{"a":{}},"headers":[{"name":"X-A","value":"v"}],"proxy":{"enable":true,"target_ip":null},"proxy_setting":"custom","proxy_value":"v","expires_at_interval_from_last_use":"7 days 01:30:00"}"#
            ),
        ),
        (
            "a bound entry",
            concat!(
                "\u{9}",
                r#"{"permissioned_user_id":"a","domain":"https://acme.com","secret_provider_id":"25290e80-bbd5-41b3-861e-dea30cc26e27","secret_ref":"x://i","secret_cache_ttl_seconds":0}"#
            ),
        ),
    ],
    words: &[
        "\"name\":",
        "\"settings\":",
        "\"cache_ttl_seconds\":",
        "\"entry_id\":",
        "\"password\":",
        "\"length\":",
        "\"fields\":[",
        "\"further\":[",
        "\"permissioned_user_id\":",
        "\"domain\":",
        "\"secret_provider_id\":",
        "\"secret_ref\":",
        "\"tfa_method\":",
        "\"AUTHENTICATOR\"",
        "\"tfa_secret\":",
        "\"cookies\":[",
        "\"session_storage\":{",
        "\"proxy_setting\":",
        "\"user_agent\":",
        "\"session_id\":",
        "null",
        "true",
        "4294967296",
        "1e2",
        "-1",
        "\\u0000",
        "\\ud800",
        "$serde_json::private::RawValue",
        "[[[[[[[[",
        "00:00:01",
        "-1 days",
        "mons",
        "years",
    ],
};

pub(crate) const CONFIGURATION: Target = Target {
    name: "configuration",
    run: |input| str::from_utf8(input).map_or((), keyway_server::cli::fuzzing::configuration),
    longest: 512,
    inputs: 200_000,
    seeds: &[
        (
            "settings of every type",
            "listen = \"127.0.0.1:8600\"\ndata_dir = 'd'\ninsecure_plain_http = true\naudit_segment_mib = 0x1_0\nconnect_to = [\"a.example=http://127.0.0.1:1\"]\n",
        ),
        (
            "TLS",
            "tls_certificate = \"c.pem\"\ntls_key = \"k.pem\"\ntls_client_ca = \"ca.pem\"\nlisten = \"unix:/run/k.sock\"\n",
        ),
        (
            "lists",
            "allow_private = [\"https://v.internal:8200\", 'https://*.example.com']\ndefault_rate_limit_tier = [\"p=business\"]\n",
        ),
        ("a table", "# none\n[serve]\nlisten = \"x\"\n"),
        ("lines in a text", "log = \"\"\"\ninfo\n\"\"\"\nlog_format = \"json\"\naudit_sync = \"every\"\n"),
    ],
    words: &[
        "listen",
        "metrics_listen",
        "data_dir",
        "providers",
        "master_key_file",
        "old_master_key_file",
        "connect_to",
        "allow_private",
        "default_rate_limit_tier",
        "audit_dir",
        "audit_segment_mib",
        "audit_sync",
        "log",
        "log_format",
        "tls_certificate",
        "tls_key",
        "tls_client_ca",
        "insecure_plain_http",
        "head_timeout_seconds",
        "idle_timeout_seconds",
        "config",
        "json",
        " = ",
        "\"\"\"",
        "'''",
        "true",
        "false",
        "0b1",
        "1979-05-27",
        "inf",
        "\\u0000",
        "unix:/",
        "[::1]:0",
        "https://",
        "=http://",
        ",",
    ],
};
