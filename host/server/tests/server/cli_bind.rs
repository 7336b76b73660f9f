//! Binding to a missing item on the command line: the warning, and the one request to the secret
//! manager, or none.

use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule};

use crate::support::{Folder, Ran};

/// Well-formed ids of no item.
const NO_ITEM: &str = "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4";
const NAMES: &str = "op://Automation/Console";

struct Site {
    emulator: Emulator,
    folder: Folder,
    rule: String,
}

impl Site {
    fn new() -> Self {
        let emulator = Emulator::start().unwrap();
        let rule = format!("{}={}", emulator.host(), emulator.url());
        let folder = Folder::with(&["onepassword"]);
        folder.run(&["workspace", "create", "Acme"]).ok();
        let token = emulator.token("automation").unwrap().expose().to_owned();
        folder.run_with(&["connect", "--token-file", "-", "--connect-to", &rule], &token).ok();
        emulator.reset_calls();
        Self { emulator, folder, rule }
    }

    /// An item that exists.
    fn item(&self) -> String {
        self.item_of("Northwind Supplier Portal")
    }

    fn item_of(&self, title: &str) -> String {
        let account = self.emulator.account("automation").unwrap();
        account.vault("Automation").unwrap().item(title).unwrap().reference.clone()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let more = ["--user", "acme-prod", "--domain", "https://acme.com", "--connect-to", &self.rule, "--json"];
        self.folder.run(&[arguments, &more].concat()).ok()
    }

    /// Binds an entry, and deletes it.
    fn bind(&self, reference: &str, more: &[&str]) -> Ran {
        let bound = self.run(&[&["bind", reference], more].concat());
        assert_eq!(bound.json()["secret_ref"], reference, "bound in any case");
        self.run(&["entry", "delete"]);
        bound
    }
}

#[test]
fn a_reference_that_will_not_resolve_is_bound_with_a_warning() {
    let site = Site::new();
    let warning = "warning: the entry is bound, but does not resolve at present: ";
    let bound = site.bind(NO_ITEM, &[]);
    assert!(bound.stderr.starts_with(warning), "{bound:#?}");
    site.run(&["entry", "create", "--tfa-method", "SMS"]);
    let updated = site.run(&["entry", "update", "--bind", NO_ITEM]);
    assert!(updated.stderr.starts_with(warning), "{updated:#?}");
    // A change without a binding checks nothing.
    assert_eq!(site.run(&["entry", "update", "--alias", "Main"]).stderr, "");
}

#[test]
fn an_item_that_is_no_login_is_bound_with_a_warning_and_resolves_to_a_reason() {
    let site = Site::new();
    let bind = ["bind", &site.item_of("Relecloud API Key")];
    let bound = site.run(&bind);
    assert!(bound.stderr.starts_with("warning: the entry is bound, but it resolves to nothing: "), "{bound:#?}");
    assert!(bound.stderr.contains("API credential"), "{bound:#?}");
    let resolved = site.run(&["resolve"]).json();
    assert!(resolved["username"].is_null() && resolved["password"].is_null(), "{resolved}");
    assert!(resolved["no_values"].as_str().unwrap().contains("login item"), "{resolved}");
    assert_eq!(resolved["no_code"]["reason"], "not-a-login");
}

#[test]
fn what_is_no_reference_of_the_provider_is_not_bound() {
    let site = Site::new();
    let arguments = ["bind", NAMES, "--user", "acme-prod", "--domain", "https://acme.com"];
    let refused = site.folder.run(&arguments).failed(4);
    assert!(refused.stderr.contains("does not consist of ids"), "{refused:#?}");
    assert_eq!(site.emulator.calls().total, 0);
}

#[test]
fn an_item_that_is_there_is_asked_for_once_and_nothing_is_said() {
    let site = Site::new();
    assert_eq!(site.bind(&site.item(), &[]).stderr, "");
    assert_eq!(site.emulator.calls().of(Endpoint::Item), 1);
}

#[test]
fn a_secret_manager_that_is_out_of_order_stands_in_no_bindings_way() {
    let site = Site::new();
    site.emulator.fault(FaultRule::next(Fault::status(503)).always());
    let bound = site.bind(&site.item(), &[]);
    assert!(bound.stderr.starts_with("warning: the entry is bound, but its item could not be checked: "), "{bound:#?}");
}

#[test]
fn a_script_that_binds_many_leaves_the_look_out() {
    let site = Site::new();
    assert_eq!(site.bind(NO_ITEM, &["--no-check"]).stderr, "");
    assert_eq!(site.emulator.calls().total, 0);
}
