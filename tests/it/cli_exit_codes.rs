//! Exit codes: 0 done, 1 it could not be done, 2 the command line or the settings are wrong; of every subcommand.

use crate::{
    cli_support::Apart,
    support::{port::Port, service::Setup},
};

#[test]
fn every_subcommand_keeps_the_exit_codes_of_the_readme() {
    let nobody = Port::reserve();
    let embedded = Apart::new(Setup::default());
    let away = Apart::new(
        Setup::default()
            .with("source.kind", "scylla")
            .with("scylla.connect_timeout_ms", 200)
            .with("scylla.nodes", nobody.address()),
    );
    let no_file = Apart::new(
        Setup::default()
            .with("source.kind", "scylla")
            .with("scylla.username", "x")
            .with("scylla.password", "hush")
            .with("scylla.tls_ca_file", "/nowhere.pem"),
    );
    let wrong = Apart::new(Setup::default().with("redis.mode", "both"));
    let table: [(&Apart, &[&str], i32); 29] = [
        (&embedded, &["config", "check"], 0),
        (&embedded, &["config", "show"], 0),
        (&embedded, &["auth", "token"], 0),
        (&embedded, &["completions", "bash"], 0),
        (&embedded, &["schema", "status"], 2),
        (&embedded, &["get", "1001"], 1),
        (&embedded, &["get", "0"], 2),
        (&embedded, &["get", "1001", "--url", "ftp://x"], 2),
        (&embedded, &["verify"], 1),
        (&embedded, &["verify", "--users", "/nowhere"], 2),
        (&embedded, &["warm", "--top", "5"], 2),
        (&embedded, &["warm"], 2),
        (&embedded, &["doctor", "--before-start"], 0),
        (&embedded, &["auth", "token", "--scopes", "root"], 2),
        (&embedded, &["auth", "token", "--scopes", "read,read"], 0),
        (&embedded, &["auth", "token", "--name", "web shop"], 2),
        (&embedded, &["serv"], 2),
        (&away, &["schema", "status"], 1),
        (&away, &["schema", "apply"], 1),
        (&away, &["schema", "drop-view"], 2),
        (&away, &["schema", "drop-view", "--yes"], 1),
        (&away, &["verify", "--all"], 1),
        (&away, &["doctor", "--before-start"], 1),
        (&no_file, &["schema", "status"], 2),
        (&no_file, &["schema", "apply"], 2),
        (&no_file, &["verify"], 2),
        (&wrong, &["verify"], 2),
        (&wrong, &["config", "check"], 2),
        (&wrong, &["serve"], 2),
    ];
    for (apart, arguments, code) in table {
        let said = apart.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said}");
        assert!(!said.err.contains("hush"), "{said}");
    }
}
