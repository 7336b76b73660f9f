use super::*;
use crate::{
    encoding::{b64u, decode_hex},
    random::SystemRandom,
    vectors::vectors,
};
use keyway_sdk::encoding::HEXLOWER;
use serde_json::{Value, json};

fn keys() -> &'static Value {
    &vectors()["keys"]
}

fn master_key() -> SymmetricKey {
    SymmetricKey::new(MASTER_KEY_ID, &decode_hex(keys()["muk"].as_str().unwrap()).unwrap())
}

fn keyset() -> Keyset {
    serde_json::from_value(keys()["keyset"].clone()).unwrap()
}

fn vault_key_envelope() -> Envelope {
    serde_json::from_value(keys()["vault"]["combinedAccess"]["encVaultKey"].clone()).unwrap()
}

fn open(keysets: &[Keyset]) -> Result<SymmetricKey, OpenError> {
    KeyChain::new(keysets, &master_key()).open_vault_key(&vault_key_envelope())
}

fn rsa_vector() -> RsaKey {
    let mut jwk = vectors()["rsaOaep"]["privateJwk"].clone();
    jwk["kid"] = vectors()["rsaOaep"]["sha1"]["kid"].clone();
    jwk["alg"] = json!("RSA-OAEP");
    RsaKey::from_jwk(jwk.to_string().as_bytes()).unwrap()
}

#[test]
fn the_vectors_vault_key_is_opened_and_opens_the_vault() {
    let key = open(&[keyset()]).unwrap();
    assert_eq!(key.id(), keys()["vaultKeyId"].as_str().unwrap());
    assert_eq!(HEXLOWER.encode(key.bytes()), keys()["vaultKey"].as_str().unwrap());
    for (envelope, plaintext) in [
        (&keys()["vault"]["encAttrs"], "vaultAttributes"),
        (&keys()["item"]["encOverview"], "itemOverview"),
        (&keys()["item"]["encDetails"], "itemDetails"),
    ] {
        let envelope = serde_json::from_value(envelope.clone()).unwrap();
        let opened: Value = serde_json::from_slice(&key.open(&envelope).unwrap()).unwrap();
        assert_eq!(opened, keys()[plaintext], "{plaintext}");
    }
}

#[test]
fn the_keysets_symmetric_key_is_that_of_the_vectors() {
    let jwk = master_key().open(&keyset().enc_sym_key).unwrap();
    let key = SymmetricKey::from_jwk(&jwk).unwrap();
    assert_eq!(HEXLOWER.encode(key.bytes()), keys()["keysetSymKey"].as_str().unwrap());
}

#[test]
fn both_kinds_of_oaep_open_their_vector_and_only_theirs() {
    let mut key = rsa_vector();
    let v = &vectors()["rsaOaep"];
    let envelope = |name: &str| serde_json::from_value::<Envelope>(v[name].clone()).unwrap();
    let plaintext = v["plaintext"].as_str().unwrap().as_bytes();
    assert_eq!(*key.open(&envelope("sha1")).unwrap(), plaintext);
    assert_eq!(key.open(&envelope("sha256")), Err(OpenError::Algorithm));
    key.algorithm = Algorithm::OaepSha256;
    assert_eq!(*key.open(&envelope("sha256")).unwrap(), plaintext);
    let disguised = Envelope { data: envelope("sha1").data, ..envelope("sha256") };
    assert_eq!(key.open(&disguised), Err(OpenError::Integrity));
}

#[test]
fn keysets_that_cannot_be_opened_do_not_disturb_the_one_that_can() {
    let mut broken = keyset();
    broken.sn = 2;
    broken.enc_sym_key.data.replace_range(0..1, "A");
    let mut foreign = keyset();
    foreign.uuid = "b".repeat(26);
    foreign.encrypted_by = "c".repeat(26);
    assert!(open(&[foreign.clone(), broken.clone(), keyset(), foreign.clone()]).is_ok());
    assert_eq!(open(&[foreign]).err(), Some(OpenError::WrongKey));
    assert_eq!(open(&[broken]).err(), Some(OpenError::Integrity));
    assert_eq!(open(&[]).err(), Some(OpenError::WrongKey));
}

#[test]
fn of_two_keysets_with_one_id_the_newer_one_counts() {
    let mut newer = keyset();
    newer.sn = 7;
    let mut older = keyset();
    older.enc_sym_key.kid = "not even looked at".to_owned();
    assert!(open(&[older.clone(), newer.clone()]).is_ok());
    assert!(open(&[newer, older]).is_ok());
}

#[test]
fn a_keyset_may_name_its_parent_in_its_envelope_only() {
    let mut keyset = keyset();
    keyset.encrypted_by = String::new();
    assert!(open(&[keyset]).is_ok());
}

#[test]
fn a_keyset_under_another_keyset_is_opened_in_any_order_of_the_list() {
    let rsa = rsa_vector();
    let child_key = SymmetricKey::new("child-symmetric", &[9; 32]);
    let mut jwk = vectors()["rsaOaep"]["privateJwk"].clone();
    jwk["kid"] = json!("child");
    jwk["alg"] = json!("RSA-OAEP-256");
    let symmetric_jwk = json!({"kty":"oct","alg":"A256GCM","kid":"child-symmetric","k":b64u(&[9; 32])}).to_string();
    let encrypt = |plaintext: &str| rsa.key.to_public_key().oaep_encrypt::<Sha1>(plaintext.as_bytes()).unwrap();
    let child = Keyset {
        uuid: "child".into(),
        encrypted_by: keyset().uuid,
        sn: 1,
        enc_sym_key: Envelope {
            cty: "b5+jwk+json".into(),
            kid: keyset().uuid,
            enc: "RSA-OAEP".into(),
            iv: None,
            data: b64u(&encrypt(&symmetric_jwk)),
        },
        enc_pri_key: child_key.seal(jwk.to_string().as_bytes(), &SystemRandom).unwrap(),
    };
    let vault_jwk = json!({"kty":"oct","alg":"A256GCM","kid":"vault","k":b64u(&[3; 32])}).to_string();
    let envelope = Envelope {
        cty: "b5+jwk+json".into(),
        kid: "child".into(),
        enc: "RSA-OAEP-256".into(),
        iv: None,
        data: b64u(&rsa.key.to_public_key().oaep_encrypt::<Sha256>(vault_jwk.as_bytes()).unwrap()),
    };
    for keysets in [vec![keyset(), child.clone()], vec![child, keyset()]] {
        let master = master_key();
        let mut chain = KeyChain::new(&keysets, &master);
        assert_eq!(chain.open_vault_key(&envelope).unwrap().bytes(), &[3; 32]);
        assert!(chain.open_vault_key(&vault_key_envelope()).is_ok(), "the parent serves its own vaults, too");
    }
}

#[test]
fn keysets_that_encrypt_each_other_end_in_an_error() {
    let mut one = keyset();
    one.encrypted_by = "two".into();
    let mut two = keyset();
    two.uuid = "two".into();
    two.encrypted_by = one.uuid.clone();
    assert_eq!(open(&[one, two]).err(), Some(OpenError::WrongKey));
}

#[test]
fn many_keysets_of_one_id_at_every_step_cost_no_more_than_their_number() {
    let step = |number: usize| if number == 0 { keyset().uuid } else { format!("step {number}") };
    let of_step = |number| {
        let keyset = Keyset { uuid: step(number), encrypted_by: step(number + 1), ..keyset() };
        [keyset.clone(), keyset]
    };
    // Tried again on each way that leads to them, they would be opened 2^40 times.
    let keysets: Vec<_> = (0..40).flat_map(of_step).collect();
    assert_eq!(open(&keysets).err(), Some(OpenError::WrongKey));
    assert!(open(&[keysets, vec![keyset()]].concat()).is_ok());
}
