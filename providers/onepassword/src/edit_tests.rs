use super::*;
use keyway_sdk::ErrorCode;
use serde_json::{Value, json};

const NOW: u64 = 1_735_787_045;

fn changes(username: Option<&str>, password: Option<&str>) -> Changes {
    Changes { username: username.map(Into::into), password: password.map(Into::into) }
}

fn edited(details: &str, category: &str, changes: &Changes) -> String {
    edit(details, "{}", category, changes, NOW).unwrap().unwrap().details.as_str().to_owned()
}

/// Details as another client may write them: odd white space, escapes, number forms, unknown
/// members and duplicates of those.
const ODD: &str = "\u{20}{\r\n\t\"htmlForm\" : { \"n\":-0.0, \"big\": 12345678901234567890123, \"e\":1.50E+02 },\n\
  \"fields\":[ {\"type\":\"T\",\"\\u0064esignation\":\"username\" , \"value\" : \"\\u0062ob\\/x\",\"a\":{\"b\":[ ]} },\n\
  { \"inputTraits\":{},\"value\":\"hunter2\",\"designation\":\"password\"}, {\"id\":\"third\",\"value\":\"web form\"} ],\n\
  \"passwordHistory\":[ {\"time\":1,\"value\":\"older\"} ],\"x\":1,\"x\":2, \"notesPlain\":\"\" , \"sections\":[]}\n";

#[test]
fn a_new_password_changes_two_places_and_no_other_byte() {
    let expected = ODD
        .replace("\"value\":\"hunter2\"", "\"value\":\"n\\\"ew\\\\\"")
        .replace("[ {\"time\"", "[{\"value\":\"hunter2\",\"time\":1735787045}, {\"time\"");
    assert_eq!(edited(ODD, LOGIN, &changes(None, Some("n\"ew\\"))), expected);
}

#[test]
fn a_new_user_name_changes_one_place_and_the_subtitle() {
    let overview = "{ \"ps\":60.0,\"ainfo\" : \"bob\\/x\" ,\"title\":\"T\\u0069tle\"}";
    let edited = edit(ODD, overview, LOGIN, &changes(Some("al ice"), None), NOW).unwrap().unwrap();
    assert_eq!(edited.details.as_str(), ODD.replace("\"\\u0062ob\\/x\"", "\"al ice\""));
    assert_eq!(edited.overview.unwrap().as_str(), overview.replace("\"bob\\/x\"", "\"al ice\""));
}

#[test]
fn the_subtitle_is_added_where_there_is_none_and_never_empty() {
    for (overview, username, expected) in [
        ("{}", "a", r#"{"ainfo":"a"}"#),
        (r#"{"title":"t"}"#, "a", r#"{"title":"t","ainfo":"a"}"#),
        (r#"{"ainfo":null}"#, "a", r#"{"ainfo":"a"}"#),
        (r#"{"ainfo":"x"}"#, "", r#"{"ainfo":"—"}"#),
    ] {
        let edited = edit(ODD, overview, LOGIN, &changes(Some(username), None), NOW).unwrap().unwrap();
        assert_eq!(edited.overview.unwrap().as_str(), expected);
    }
}

#[test]
fn the_overview_stays_when_only_the_password_changes() {
    assert!(
        edit(ODD, "not even looked at", LOGIN, &changes(None, Some("x")), NOW).unwrap().unwrap().overview.is_none()
    );
}

#[test]
fn values_that_are_already_there_change_nothing() {
    for changes in
        [changes(Some("bob/x"), None), changes(None, Some("hunter2")), changes(Some("bob/x"), Some("hunter2"))]
    {
        assert!(edit(ODD, "{}", LOGIN, &changes, NOW).unwrap().is_none());
    }
    let both = edited(ODD, LOGIN, &changes(Some("bob/x"), Some("new")));
    assert!(both.contains("\\u0062ob\\/x"), "the unchanged one keeps its spelling");
}

#[test]
fn fields_that_the_item_lacks_are_added() {
    let field = |kind: &str, name: &str, value: &str| json!({"value": value, "id": name, "name": name, "type": kind, "designation": name});
    for details in ["{}", r#"{"fields":[]}"#, r#"{"fields":null}"#, r#" { "fields" : [ ] } "#] {
        let new: Value = serde_json::from_str(&edited(details, LOGIN, &changes(Some("u"), Some("p")))).unwrap();
        assert_eq!(new, json!({"fields": [field("T", "username", "u"), field("P", "password", "p")]}), "{details}");
    }
    let details = r#"{"notesPlain":"n","fields":[{"id":"web","value":"v"}]}"#;
    let new: Value = serde_json::from_str(&edited(details, LOGIN, &changes(None, Some("p")))).unwrap();
    assert_eq!(new, json!({"notesPlain": "n", "fields": [{"id": "web", "value": "v"}, field("P", "password", "p")]}));
}

#[test]
fn a_field_that_is_built_in_by_its_id_is_changed_in_place() {
    let details = r#"{"fields":[{"id":"username","value":"a"},{"id":"password","value":"b","type":"P"}]}"#;
    let new: Value = serde_json::from_str(&edited(details, LOGIN, &changes(Some("u"), Some("p")))).unwrap();
    assert_eq!(new["fields"], json!([{"id": "username", "value": "u"}, {"id": "password", "value": "p", "type": "P"}]));
}

#[test]
fn a_new_field_never_gets_the_id_of_another() {
    let details = r#"{"fields":[{"id":"username","designation":"other","value":"x"}],
        "sections":[{"fields":[{"n":"password","k":"string","v":"x"},{"n":"password-2","k":"string","v":"x"}]}]}"#;
    let new: Value = serde_json::from_str(&edited(details, LOGIN, &changes(Some("u"), Some("p")))).unwrap();
    let ids: Vec<_> = new["fields"].as_array().unwrap().iter().map(|field| field["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["username", "username-2", "password-3"]);
    let text = new.to_string();
    let found = LoginFields::find(&text, LOGIN).unwrap();
    assert_eq!(found.value(Builtin::Username).unwrap().as_str(), "u");
    assert_eq!(found.value(Builtin::Password).unwrap().as_str(), "p");
}

#[test]
fn a_field_without_a_value_gets_one() {
    for (details, expected) in [
        (r#"{"fields":[{"designation":"username"}]}"#, r#"{"fields":[{"designation":"username","value":"u"}]}"#),
        (
            r#"{"fields":[{"designation":"username","value":null}]}"#,
            r#"{"fields":[{"designation":"username","value":"u"}]}"#,
        ),
        (
            r#"{"fields":[{"designation":"username","value":7}]}"#,
            r#"{"fields":[{"designation":"username","value":"u"}]}"#,
        ),
    ] {
        assert_eq!(edited(details, LOGIN, &changes(Some("u"), None)), expected);
    }
}

#[test]
fn an_empty_string_empties_the_field() {
    let new: Value = serde_json::from_str(&edited(ODD, LOGIN, &changes(Some(""), Some("")))).unwrap();
    assert_eq!((&new["fields"][0]["value"], &new["fields"][1]["value"]), (&json!(""), &json!("")));
    assert_eq!(new["passwordHistory"][0]["value"], "hunter2");
}

#[test]
fn only_an_earlier_password_becomes_history() {
    let first = edited(r#"{"fields":[{"designation":"password","value":""}]}"#, LOGIN, &changes(None, Some("p")));
    assert!(!first.contains("passwordHistory"), "{first}");
    for details in [
        r#"{"fields":[{"designation":"password","value":"o"}]}"#,
        r#"{"fields":[{"designation":"password","value":"o"}],"passwordHistory":null}"#,
        r#"{"fields":[{"designation":"password","value":"o"}],"passwordHistory":[]}"#,
    ] {
        let new: Value = serde_json::from_str(&edited(details, LOGIN, &changes(None, Some("p")))).unwrap();
        assert_eq!(new["passwordHistory"], json!([{"value": "o", "time": NOW}]), "{details}");
    }
}

#[test]
fn the_category_password_keeps_its_password_where_it_is() {
    assert_eq!(
        edited(r#"{"password":"o","notesPlain":""}"#, PASSWORD, &changes(None, Some("p"))),
        r#"{"password":"p","notesPlain":"","passwordHistory":[{"value":"o","time":1735787045}]}"#
    );
    assert_eq!(edited("{}", PASSWORD, &changes(None, Some("p"))), r#"{"password":"p"}"#);
    assert!(matches!(
        edit("{}", "{}", PASSWORD, &changes(Some("u"), None), NOW),
        Err(Error { code: ErrorCode::Unsupported, .. })
    ));
}

#[test]
fn other_categories_and_unknown_shapes_are_not_touched() {
    assert!(matches!(
        edit("{}", "{}", "003", &changes(None, Some("p")), NOW),
        Err(Error { code: ErrorCode::Unsupported, .. })
    ));
    for details in ["[]", "", r#"{"fields":{}}"#, r#"{"fields":"x"}"#, r#"{"fields":[],"fields":[]}"#] {
        let result = edit(details, "{}", LOGIN, &changes(None, Some("p")), NOW);
        assert!(matches!(result, Err(Error { code: ErrorCode::UnexpectedAnswer, .. })), "{details}");
    }
    let history = r#"{"fields":[{"designation":"password","value":"o"}],"passwordHistory":{}}"#;
    assert!(matches!(
        edit(history, "{}", LOGIN, &changes(None, Some("p")), NOW),
        Err(Error { code: ErrorCode::UnexpectedAnswer, .. })
    ));
}

#[test]
fn no_error_repeats_anything_of_the_item() {
    for details in [
        r#"{"fields":"hunter2"}"#,
        r#"{"fields":[{"designation":"password","value":"hunter2"}],"passwordHistory":{}}"#,
        "hunter2",
    ] {
        let Err(error) = edit(details, "{}", LOGIN, &changes(None, Some("secret-new")), NOW) else { panic!() };
        assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("secret-new"), "{error}");
    }
}
