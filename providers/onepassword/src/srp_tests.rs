use super::*;
use crate::{encoding::decode_hex, random::SystemRandom, vectors::vectors};
use serde_json::Value;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is in the vector"))
}

/// All bytes, even for an odd number of digits.
fn bytes(hex: &str) -> Vec<u8> {
    let even = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    HEXLOWER.decode(even.as_bytes()).unwrap()
}

fn agree(case: &Value, ephemeral: Ephemeral, user_b: &str) -> Result<Agreement, SrpError> {
    ephemeral.agree(
        user_b,
        &decode_hex(text(case, "x")).unwrap(),
        &Identity { key_id: text(case, "skid"), email: text(case, "email") },
        &decode_b64u(text(case, "salt")).unwrap(),
    )
}

fn cases() -> Vec<&'static Value> {
    let srp = &vectors()["srp"];
    let mut cases = vec![&srp["main"]];
    cases.extend(srp["cases"].as_array().unwrap());
    assert_eq!(cases.len(), 6, "the main vector and one for each kind of leading zero");
    cases
}

#[test]
fn the_group_and_its_constants_are_those_of_the_vectors() {
    let srp = &vectors()["srp"];
    assert_eq!(minimal_hex(Group::PARAMS.modulus().as_ref()).as_str(), text(srp, "N"));
    let modulus = padded(Group::PARAMS.modulus().as_ref());
    assert_eq!(HEXLOWER.encode(&hash(&[&modulus[..]])), text(srp, "hashN"));
    assert_eq!(HEXLOWER.encode(&hash(&[&[GENERATOR]])), text(srp, "hashG"));
    assert_eq!(HEXLOWER.encode(&hash(&[&modulus[..], &padded(&U4096::from(GENERATOR))[..]])), text(srp, "k"));
}

#[test]
fn every_vector_gives_the_official_clients_values_leading_zeros_included() {
    for case in cases() {
        let name = text(case, "name");
        let ephemeral = Ephemeral::from_secret_bytes(&bytes(text(case, "a")));
        assert_eq!(ephemeral.user_a(), text(case, "userA"), "{name}");
        let agreement = agree(case, ephemeral, text(case, "userB")).unwrap();
        assert_eq!(HEXLOWER.encode(agreement.session_key.as_slice()), text(case, "K"), "{name}");
        assert_eq!(HEXLOWER.encode(&agreement.client_proof), text(case, "M1"), "{name}");
        assert_eq!(agreement.client_verify_hash(), text(case, "clientVerifyHash"), "{name}");
        assert_eq!(HEXLOWER.encode(&agreement.server_proof), text(case, "M2"), "{name}");
        let session_key = agreement.confirm(text(case, "serverVerifyHash")).unwrap();
        assert_eq!(HEXLOWER.encode(session_key.as_slice()), text(case, "K"), "{name}");
    }
}

#[test]
fn the_identity_is_that_of_the_vectors() {
    for case in cases() {
        let identity = Identity { key_id: text(case, "skid"), email: text(case, "email") };
        assert_eq!(identity.name(), text(case, "identity"));
        assert_eq!(HEXLOWER.encode(&hash(&[identity.name().as_bytes()])), text(case, "identityHash"));
    }
}

#[test]
fn the_servers_value_may_be_padded_unpadded_or_in_upper_case() {
    let case = &vectors()["srp"]["cases"][2];
    let expected = text(case, "K");
    let unpadded = text(case, "B");
    for user_b in [unpadded.to_owned(), format!("{unpadded:0>1024}"), unpadded.to_uppercase()] {
        let agreement = agree(case, Ephemeral::from_secret_bytes(&bytes(text(case, "a"))), &user_b).unwrap();
        assert_eq!(HEXLOWER.encode(agreement.session_key.as_slice()), expected);
    }
}

#[test]
fn a_server_value_that_fixes_the_key_is_refused() {
    let case = &vectors()["srp"]["main"];
    let n = text(&vectors()["srp"], "N");
    let above = format!("{}{}", &n[..n.len() - 1], "f").replacen("9ff", "aff", 1);
    for illegal in ["0", "00", &"0".repeat(1024), n, &above] {
        let refused = agree(case, Ephemeral::from_secret_bytes(&[7]), illegal).err();
        assert_eq!(refused, Some(SrpError::IllegalServerValue), "{illegal}");
    }
    for malformed in ["", "xyz", "-1", &"1".repeat(1025)] {
        assert_eq!(agree(case, Ephemeral::from_secret_bytes(&[7]), malformed).err(), Some(SrpError::Malformed));
    }
}

#[test]
fn a_wrong_server_proof_releases_no_key() {
    let case = &vectors()["srp"]["main"];
    let proof = text(case, "serverVerifyHash");
    let changed = format!("{}E", &proof[..proof.len() - 1]);
    for wrong in [changed.as_str(), "", "!", &proof[..20], text(case, "clientVerifyHash")] {
        let agreement =
            agree(case, Ephemeral::from_secret_bytes(&bytes(text(case, "a"))), text(case, "userB")).unwrap();
        assert_eq!(agreement.confirm(wrong).err(), Some(SrpError::WrongServerProof), "{wrong}");
    }
}

#[test]
fn a_generated_login_agrees_with_a_server_that_knows_only_the_verifier() {
    let case = &vectors()["srp"]["main"];
    let ephemeral = Ephemeral::generate(&SystemRandom).unwrap();
    let a_public = ephemeral.public;
    // The server's side of RFC 5054, from v and b.
    let v = Element::new(&U4096::from_be_slice(&bytes(text(case, "v"))));
    let b = U256::from_be_slice(&bytes(text(case, "b")));
    let u = U256::from_be_slice(&hash(&[&padded(&a_public)[..], &bytes(text(case, "B"))]));
    let server_secret = (Element::new(&a_public) * v.pow(&u)).pow(&b).retrieve();
    let server_key = hash(&[minimal_hex(&server_secret).as_bytes()]);
    let agreement = agree(case, ephemeral, text(case, "userB")).unwrap();
    assert_eq!(*agreement.session_key, server_key);
}

#[test]
fn two_logins_do_not_share_their_secret() {
    let [one, two] = [(); 2].map(|()| Ephemeral::generate(&SystemRandom).unwrap().user_a());
    assert_ne!(one, two);
}
