//! Changing items, and checking beforehand whether that would work.

use crate::lab::{ITEM, Lab, READ_ONLY_VAULT, VAULT, error, password, text, username};
use keyway_emulator_onepassword::{DeniedWrite, Endpoint, Fault, FaultRule, ItemChange, Options, Rules, VaultAccess};
use keyway_sdk::{Changes, Error, ErrorCode, Selection, WriteAccess};

/// An item full of data that this provider does not know.
const ODD_ITEM: &str = "Adventure Works Admin";

#[test]
fn a_new_password_is_there_and_the_rest_of_the_item_is_the_same_byte_for_byte() {
    let lab = Lab::new().warm();
    let item = lab.item(VAULT, ODD_ITEM);
    let before = lab.emulator.item(VAULT, &item.id).unwrap();
    assert_eq!(lab.write(&item.reference, &password("n\"ew 🔑"), None).unwrap(), "2");
    let after = lab.emulator.item(VAULT, &item.id).unwrap();
    assert_eq!(after.overview, before.overview);
    assert_eq!(after.item_version, 2);

    let old = r#""Gl\u00fchw\u00fcrmchen\u002d\ud83d\udd11 99""#;
    let history = r#""passwordHistory" : ["#;
    let (start, end) = after.details.split_once(r#"{"value":"Glühwürmchen-🔑 99","time":"#).unwrap();
    let (_time, end) = end.split_once('}').unwrap();
    assert!(start.ends_with(history));
    let restored = format!("{start}{}", end.strip_prefix(',').unwrap()).replace(r#""n\"ew 🔑""#, old);
    assert_eq!(restored, before.details);
    let resolved = lab.resolve(&item.reference, &Selection::ALL).unwrap();
    assert_eq!((text(resolved.password.as_ref()), resolved.revision.as_str()), (Some("n\"ew 🔑"), "2"));
}

#[test]
fn a_new_user_name_also_becomes_the_subtitle() {
    let lab = Lab::new();
    let item = lab.item(VAULT, ODD_ITEM);
    let before = lab.emulator.item(VAULT, &item.id).unwrap();
    lab.write(&item.reference, &username("root"), None).unwrap();
    let after = lab.emulator.item(VAULT, &item.id).unwrap();
    assert_eq!(after.overview, before.overview.replace("\"sysop\"", "\"root\""));
    assert_eq!(after.details, before.details.replace("\"sysop\"", "\"root\""));
}

#[test]
fn both_can_change_at_once_and_fields_that_are_missing_are_added() {
    let lab = Lab::new();
    for title in [ITEM, "Legacy Mainframe", "No Password", "Empty Password"] {
        let item = lab.item(VAULT, title);
        let changes = Changes { username: Some("u-new".into()), password: Some("p-new".into()) };
        assert_eq!(lab.write(&item.reference, &changes, Some("1")).unwrap(), "2", "{title}");
        let resolved = lab.resolve(&item.reference, &Selection { one_time_code: false, ..Selection::ALL }).unwrap();
        assert_eq!(
            (text(resolved.username.as_ref()), text(resolved.password.as_ref())),
            (Some("u-new"), Some("p-new"))
        );
    }
}

#[test]
fn nothing_to_change_writes_nothing() {
    let lab = Lab::new().warm();
    let item = lab.item(VAULT, ITEM);
    let same =
        Changes { username: item.username.clone().map(Into::into), password: item.password.clone().map(Into::into) };
    for (changes, requests) in [(Changes::default(), 1), (same, 2)] {
        let (revision, calls) = lab.calls_of(|| lab.write(&item.reference, &changes, None).unwrap());
        assert_eq!((revision.as_str(), calls.total, calls.of(Endpoint::PatchItems)), ("1", requests, 0));
        let conflict = error(lab.write(&item.reference, &changes, Some("7")));
        assert!(conflict.code == ErrorCode::Conflict);
    }
}

#[test]
fn an_item_at_another_revision_stays_as_it_is() {
    let lab = Lab::new().warm();
    let item = lab.item(VAULT, ITEM);
    lab.emulator
        .change_item(VAULT, &item.id, &ItemChange { password: Some("by a person".into()), ..ItemChange::default() })
        .unwrap();
    let (result, calls) = lab.calls_of(|| lab.write(&item.reference, &password("by us"), Some("1")));
    assert!(matches!(error(result), Error { code: ErrorCode::Conflict, .. }));
    assert_eq!(calls.of(Endpoint::PatchItems), 0);
    assert_eq!(lab.item(VAULT, ITEM).password.as_deref(), Some("by a person"));
    assert_eq!(lab.write(&item.reference, &password("by us"), Some("2")).unwrap(), "3");
}

#[test]
fn a_collision_is_read_and_applied_again() {
    for fault in [Fault::status(409), Fault::FailedItems { code: 104 }] {
        let lab = Lab::new().warm();
        let item = lab.item(VAULT, ITEM);
        lab.emulator.fault(FaultRule { times: Some(2), ..FaultRule::next_of(Endpoint::PatchItems, fault) });
        let (revision, calls) =
            lab.calls_of(|| lab.write(&item.reference, &password("third time"), Some("1")).unwrap());
        assert_eq!((revision.as_str(), calls.total), ("2", 9));
    }
}

#[test]
fn endless_collisions_end_as_a_conflict() {
    let lab = Lab::new().warm();
    lab.emulator.fault(FaultRule { times: None, ..FaultRule::next_of(Endpoint::PatchItems, Fault::status(409)) });
    let (result, calls) = lab.calls_of(|| lab.write(&lab.reference(VAULT, ITEM), &password("x"), None));
    assert!(matches!(error(result), Error { code: ErrorCode::Conflict, .. }));
    assert_eq!(calls.of(Endpoint::PatchItems), 5);
    assert_eq!(lab.item(VAULT, ITEM).password.as_deref(), Some("7Tq-wren-obelisk-41"));
}

#[test]
fn writers_of_different_items_in_one_vault_all_succeed() {
    let lab = Lab::new().warm();
    let titles = [ITEM, "Fabrikam Bank", "Contoso Expenses"];
    std::thread::scope(|scope| {
        for title in titles {
            let lab = &lab;
            scope.spawn(move || lab.write(&lab.reference(VAULT, title), &password(title), Some("1")).unwrap());
        }
    });
    for title in titles {
        assert_eq!(lab.item(VAULT, title).password.as_deref(), Some(title));
    }
}

#[test]
fn of_two_writers_with_one_expected_revision_only_one_succeeds() {
    let lab = Lab::new().warm();
    let reference = lab.reference(VAULT, ITEM);
    let results: Vec<_> = std::thread::scope(|scope| {
        let writers = ["one", "two"].map(|new| {
            let (lab, reference) = (&lab, &reference);
            scope.spawn(move || (new, lab.write(reference, &password(new), Some("1"))))
        });
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, result)| result.is_ok());
    assert_eq!(winners.len(), 1);
    assert!(matches!(losers[0].1, Err(Error { code: ErrorCode::Conflict, .. })));
    assert_eq!(lab.item(VAULT, ITEM).password.as_deref(), Some(winners[0].0));
}

#[test]
fn a_read_only_vault_says_what_to_grant() {
    let expected =
        "The service account can only read the vault 'Finance (read-only)'. Grant it Write Items on that vault.";
    for read_only_write in [DeniedWrite::Forbidden, DeniedWrite::FailedItems] {
        let options = Options { rules: Rules { read_only_write, ..Rules::default() }, ..Options::default() };
        let lab = Lab::with(options, "automation");
        let reference = lab.reference(READ_ONLY_VAULT, "Ledger Cloud");
        assert_eq!(lab.check(&reference).unwrap(), WriteAccess::Denied(expected.to_owned()));
        let Error { code: ErrorCode::PermissionDenied, message, .. } =
            error(lab.write(&reference, &password("x"), None))
        else {
            panic!()
        };
        assert_eq!(message, expected);
    }
}

#[test]
fn checking_changes_nothing_and_follows_the_servers_word() {
    let lab = Lab::new().warm();
    let item = lab.item(VAULT, ITEM);
    assert_eq!(lab.check(&item.reference).unwrap(), WriteAccess::Granted);
    lab.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    assert!(matches!(lab.check(&item.reference).unwrap(), WriteAccess::Denied(_)));
    let note = lab.reference(VAULT, "Runbook: order robots");
    assert!(matches!(lab.check(&note).unwrap(), WriteAccess::Denied(reason) if reason.contains("login items")));
    for title in ["Old Fax Gateway", "Trial Account (expired)"] {
        assert!(matches!(error(lab.check(&lab.reference(VAULT, title))), Error { code: ErrorCode::NotFound, .. }));
    }
    assert_eq!(lab.emulator.item(VAULT, &item.id).unwrap().item_version, 1);
    assert_eq!(lab.emulator.calls().of(Endpoint::PatchItems), 0);
}

#[test]
fn items_that_are_not_logins_or_not_active_are_not_changed() {
    let lab = Lab::new().warm();
    let write = |title: &str| error(lab.write(&lab.reference(VAULT, title), &password("x"), None));
    assert!(matches!(write("Runbook: order robots"), Error { code: ErrorCode::Unsupported, .. }));
    assert!(matches!(write("Old Fax Gateway"), Error { code: ErrorCode::NotFound, .. }));
    assert!(matches!(write("Trial Account (expired)"), Error { code: ErrorCode::NotFound, .. }));
    assert_eq!(lab.emulator.calls().of(Endpoint::PatchItems), 0);
    assert_eq!(lab.write(&lab.reference(VAULT, "Door Code Server Room"), &password("0815"), None).unwrap(), "2");
}

#[test]
fn a_write_whose_answer_is_lost_says_that_it_may_have_happened() {
    for (fault, happened) in [
        (Fault::Drop { handled: true }, true),
        (Fault::Drop { handled: false }, false),
        (Fault::Truncated, true),
        (Fault::status(503), false),
        (Fault::TamperedEnvelope, true),
        (Fault::Garbage, false),
    ] {
        let lab = Lab::new().warm();
        let item = lab.item(VAULT, ITEM);
        lab.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, fault.clone()));
        let (result, calls) = lab.calls_of(|| lab.write(&item.reference, &password("maybe"), Some("1")));
        let message = error(result).to_string();
        assert!(message.contains("may or may not") || message.contains("is unknown"), "{fault:?}: {message}");
        assert_eq!(calls.of(Endpoint::PatchItems), 1, "{fault:?}: it is not repeated blindly");
        assert_eq!(lab.item(VAULT, ITEM).password.as_deref() == Some("maybe"), happened, "{fault:?}");
        // Without an expected revision a retry is safe: a value that is already there is not
        // written again.
        let revision = lab.write(&item.reference, &password("maybe"), None).unwrap();
        assert_eq!(revision, "2", "{fault:?}");
    }
}

#[test]
fn each_code_of_a_failed_item_has_its_error() {
    let lab = Lab::new().warm();
    let reference = lab.reference(VAULT, ITEM);
    let write = |code| {
        lab.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::FailedItems { code }));
        error(lab.write(&reference, &password("x"), None))
    };
    assert!(matches!(write(101), Error { code: ErrorCode::PermissionDenied, .. }));
    assert!(matches!(write(103), Error { code: ErrorCode::Unavailable, .. }));
    assert!(matches!(write(106), Error { code: ErrorCode::Unsupported, .. }));
    assert!(matches!(write(100), Error { code: ErrorCode::UnexpectedAnswer, .. }));
    assert!(matches!(write(-2), Error { code: ErrorCode::UnexpectedAnswer, .. }));
}
