//! Replays the official client's recorded session: with the same random bytes and the same clock,
//! this provider must make the same requests, byte for byte, except for the two headers that
//! identify it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use keyway_sdk::{
    Changes, Selection,
    encoding::HEXLOWER,
    http::{Headers, Request, Response},
    secrecy::ExposeSecret,
    session::Typed,
    testing::TestHost,
    zeroize::Zeroizing,
};
use serde_json::Value;

use crate::{
    client::{Client, Machine},
    envelope::{Envelope, SymmetricKey},
    items,
    model::ItemPatch,
    random::scripted::ScriptedRandom,
    reference::ItemReference,
    resolve,
    session::Session,
    sign_in::sign_in_with,
    srp::Ephemeral,
    token::Token,
    vaults,
    vectors::vectors,
    wire::Wire,
    write,
};

/// 2025-01-02T03:04:05Z, the time of the recording.
const NOW: u64 = 1_735_787_045;
/// The headers that identify this provider.
const OWN_HEADERS: [&str; 2] = ["user-agent", "op-user-agent"];

fn transcript() -> &'static [Value] {
    vectors()["transcript"].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// The random bytes that the official client drew, by index.
fn drawn(index: usize) -> Vec<u8> {
    HEXLOWER.decode(text(&vectors()["randomness"][index], "hex").as_bytes()).unwrap()
}

/// A server that answers each request as in the recording.
fn recorded_server() -> TestHost {
    let sandbox = TestHost::new(|request: &Request| {
        let exchange = transcript()
            .iter()
            .find(|it| text(it, "method") == request.method.as_str() && text(it, "url") == request.url.as_str())
            .unwrap_or_else(|| panic!("{} {} is in the recording", request.method, request.url));
        Ok(Response {
            status: u16::try_from(exchange["status"].as_u64().unwrap()).unwrap(),
            headers: Headers::new(),
            body: Zeroizing::new(text(exchange, "responseBody").as_bytes().to_vec()),
        })
    });
    sandbox.clock.set(NOW);
    sandbox
}

fn token() -> Token {
    Token::parse(text(vectors(), "token")).unwrap()
}

fn sign_in(sandbox: &TestHost) {
    let host = sandbox.host();
    let secret = [drawn(0), drawn(1)].concat();
    let random = ScriptedRandom::new([drawn(2), drawn(3)]);
    let wire = Wire { host: &host, token: &token() };
    let session = sign_in_with(&wire, Ephemeral::from_secret_bytes(&secret), &random).unwrap();
    Typed::new(&sandbox.session).put(&session, session.seconds_left(NOW)).unwrap();
}

/// A call of the provider with these random bytes.
fn call<T>(sandbox: &TestHost, random: Vec<Vec<u8>>, run: impl FnOnce(&mut Client<'_>) -> T) -> T {
    let (host, token, random) = (sandbox.host(), token(), ScriptedRandom::new(random));
    let machine = Machine { random: &random, pause: &|_| {} };
    run(&mut Client::new(&host, &token, &machine))
}

fn ids(name: &str) -> ItemReference<'static> {
    let ids = &vectors()["seedIds"];
    ItemReference { vault: text(ids, "rw"), item: text(ids, name) }
}

fn assert_same_requests(sandbox: &TestHost, recorded: &[Value]) {
    let sent = sandbox.http.requests();
    assert_eq!(sent.len(), recorded.len());
    for (sent, recorded) in sent.iter().zip(recorded) {
        let url = text(recorded, "url");
        assert_eq!((sent.method.as_str(), sent.url.as_str()), (text(recorded, "method"), url));
        let body = recorded["requestBody"].as_str().unwrap_or_default();
        assert_eq!(std::str::from_utf8(&sent.body).unwrap(), body, "{url}");
        let headers = |pairs: &mut dyn Iterator<Item = (String, String)>| -> BTreeMap<String, String> {
            pairs.filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())).collect()
        };
        let own =
            sent.headers.iter().map(|(name, value)| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap()));
        let theirs = recorded["requestHeaders"].as_object().unwrap();
        let theirs = theirs.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        assert_eq!(headers(&mut { own }), headers(&mut { theirs }), "{url}");
        for name in OWN_HEADERS {
            assert!(sent.headers.get(name).unwrap().contains("Keyway"), "{url}");
        }
    }
}

#[test]
fn signing_in_resolving_and_listing_make_the_recorded_requests() {
    let sandbox = recorded_server();
    sign_in(&sandbox);
    assert_same_requests(&sandbox, &transcript()[..4]);

    let resolved =
        call(&sandbox, vec![], |client| resolve::resolve(client, ids("loginTotp"), &Selection::ALL)).unwrap();
    assert_same_requests(&sandbox, &transcript()[..7]);
    let expose = |secret: Option<keyway_sdk::secrecy::SecretString>| secret.unwrap().expose_secret().to_owned();
    assert_eq!(expose(resolved.username), "alice@example.com");
    assert_eq!(expose(resolved.password), "p4ss-wörd \"1\"");
    let code = resolved.one_time_code.unwrap().unwrap();
    assert_eq!((code.code.expose_secret().len(), code.expires_at, code.period_seconds), (6, 1_735_787_070, 30));

    // The official client lists vaults, and then the items of one of them.
    let listed = call(&sandbox, vec![], vaults::fetch_all).unwrap();
    assert_same_requests(&sandbox, &transcript()[..8]);
    assert_eq!(listed.unopened, 0);
    let names: Vec<&str> = listed.readable.iter().map(|vault| vault.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    for name in vectors()["sdkResults"]["vaults"].as_array().unwrap() {
        assert!(names.contains(&name.as_str().unwrap()));
    }
}

#[test]
fn the_recorded_list_has_the_official_clients_logins() {
    let sandbox = recorded_server();
    sign_in(&sandbox);
    // Only one of the two vaults was listed in the recording. The page begins at it, and ends with
    // the error for the other if that one comes later.
    let (writable, other) = (text(&vectors()["seedIds"], "rw"), text(&vectors()["seedIds"], "ro"));
    assert!(writable < other);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let forbid_other = {
        let seen = Rc::clone(&seen);
        TestHost::new(move |request: &Request| {
            seen.borrow_mut().push(request.url.to_string());
            if request.url.path().contains(other) {
                return Ok(Response { status: 403, body: Zeroizing::new(b"{}".to_vec()), ..Response::default() });
            }
            let exchange = transcript().iter().rfind(|it| text(it, "url") == request.url.as_str()).unwrap();
            let body = Zeroizing::new(text(exchange, "responseBody").as_bytes().to_vec());
            Ok(Response { status: 200, headers: Headers::new(), body })
        })
    };
    forbid_other.clock.set(NOW);
    let session: Session = match Typed::<Session>::new(&sandbox.session).get() {
        Some(keyway_sdk::session::Stored::Valid { value, .. }) => value,
        _ => panic!("a session was put"),
    };
    Typed::new(&forbid_other.session).put(&session, 60).unwrap();
    let page = call(&forbid_other, vec![], |client| items::list(client, None)).unwrap();
    // "Server note", the fourth item in the official client's list, is not a login.
    let titles: Vec<&str> = page.items.iter().map(|item| item.title.as_str()).collect();
    let official = vectors()["sdkResults"]["items"].as_array().unwrap();
    assert!(titles.len() >= 3 && titles.iter().all(|title| official.contains(&Value::from(*title))), "{titles:?}");
    assert!(page.next.is_none());
}

#[test]
fn a_change_is_sent_in_the_official_clients_form() {
    let sandbox = recorded_server();
    sign_in(&sandbox);
    // The IVs of overview and details, and of the request's own envelope.
    let random = vec![drawn(5), drawn(4), drawn(6)];
    let changes = Changes { username: None, password: Some("changed".into()) };
    let revision =
        call(&sandbox, random, |client| write::write(client, ids("loginPlain"), &changes, Some("1"))).unwrap();
    assert_eq!(revision, vectors()["sdkResults"]["putVersion"].to_string());

    let requests = sandbox.http.requests();
    let sent = requests.last().unwrap();
    let recorded = transcript().last().unwrap();
    assert_eq!((sent.method.as_str(), sent.url.as_str()), (text(recorded, "method"), text(recorded, "url")));
    let plaintext = open_with_session_key(&serde_json::from_slice(&sent.body).unwrap());
    let patches: Vec<Value> = serde_json::from_str(&plaintext).unwrap();
    let official = &vectors()["patch"]["item"];
    for (name, value) in official.as_object().unwrap() {
        match &patches[0][name] {
            Value::Object(envelope) => assert_eq!(envelope["iv"], value["iv"], "{name}"),
            own => assert_eq!(own, value, "{name}"),
        }
    }
    let open = |name: &str| vault_key().open(&serde_json::from_value(patches[0][name].clone()).unwrap()).unwrap();
    let details: Value = serde_json::from_slice(&open("encDetails")).unwrap();
    let theirs: Value = serde_json::from_str(text(&vectors()["patch"], "detailsPlaintext")).unwrap();
    assert_eq!(details["passwordHistory"], theirs["passwordHistory"]);
    let value = |details: &Value, designation: &str| {
        let fields = details["fields"].as_array().unwrap();
        fields.iter().find(|field| field["designation"] == designation).unwrap()["value"].clone()
    };
    for designation in ["username", "password"] {
        assert_eq!(value(&details, designation), value(&theirs, designation));
    }
    let overview: Value = serde_json::from_slice(&open("encOverview")).unwrap();
    assert_eq!((&overview["title"], &overview["ainfo"]), (&Value::from("Login plain"), &Value::from("bob")));
}

#[test]
fn with_the_official_clients_plaintexts_the_whole_change_is_the_same_byte_for_byte() {
    let patch = &vectors()["patch"];
    let item = &patch["item"];
    let seal = |plaintext: &str, iv: usize| {
        vault_key().seal(text(patch, plaintext).as_bytes(), &ScriptedRandom::new([drawn(iv)])).unwrap()
    };
    let own = ItemPatch {
        uuid: text(item, "uuid"),
        item_version: item["itemVersion"].as_u64().unwrap(),
        enc_overview: seal("overviewPlaintext", 5),
        enc_details: seal("detailsPlaintext", 4),
        trashed: "N",
        template_uuid: text(item, "templateUuid"),
        created_at: text(item, "createdAt"),
        updated_at: crate::time::rfc3339(NOW),
        encrypted_by: text(item, "encryptedBy"),
        file_references: None,
    };
    let recorded = transcript().last().unwrap();
    let plaintext = serde_json::to_string(&[own]).unwrap();
    assert_eq!(plaintext, text(recorded, "requestPlaintext"));
    let sealed = session_key().seal(plaintext.as_bytes(), &ScriptedRandom::new([drawn(6)])).unwrap();
    assert_eq!(String::from_utf8(sealed.to_json()).unwrap(), text(recorded, "requestBody"));
}

#[test]
fn every_recorded_answer_can_be_read() {
    for exchange in &transcript()[3..] {
        let plaintext = open_with_session_key(&serde_json::from_str(text(exchange, "responseBody")).unwrap());
        let value: Value = serde_json::from_str(&plaintext).unwrap();
        assert_eq!(value, exchange["responsePlaintext"], "{}", text(exchange, "url"));
    }
}

fn key(hex: &Value, id: &str) -> SymmetricKey {
    SymmetricKey::new(id, &crate::encoding::decode_hex(hex.as_str().unwrap()).unwrap())
}

fn session_key() -> SymmetricKey {
    key(&vectors()["mac"]["sessionKey"], text(&vectors()["mac"], "sessionId"))
}

fn vault_key() -> SymmetricKey {
    key(&vectors()["keys"]["vaultKey"], text(&vectors()["keys"], "vaultKeyId"))
}

fn open_with_session_key(envelope: &Envelope) -> String {
    String::from_utf8(session_key().open(envelope).unwrap().to_vec()).unwrap()
}
