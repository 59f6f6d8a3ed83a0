//! PostgreSQL and MariaDB, asked through their own clients.
//!
//! Upholds: a script that fails, fails the test with what the client says; passwords are in no list of processes of others'.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::connect::PATIENCE;
use super::services::{Kind, Service, own};

/// A database of one test's own, which has one user who may do everything, and one who may do what Debezium must.
pub(crate) struct Database {
    service: Service,
    kind: Kind,
    /// User, password, port and name, as in its URL.
    url: Url,
}

struct Url {
    user: String,
    password: String,
    port: String,
    database: String,
}

impl Url {
    /// `scheme://USER:PASSWORD@HOST:PORT/DATABASE`
    fn read(text: &str) -> Option<Url> {
        let (account, place) = text.split_once("://")?.1.split_once('@')?;
        let ((user, password), (server, database)) = (account.split_once(':')?, place.split_once('/')?);
        let port = server.rsplit_once(':')?.1;
        let [user, password, port, database] = [user, password, port, database].map(str::to_owned);
        Some(Url { user, password, port, database })
    }
}

impl Database {
    /// A PostgreSQL or a MariaDB; `None`, said by name, where it cannot be had.
    #[track_caller]
    pub(crate) fn own(kind: Kind) -> Option<Database> {
        let service = own(kind)?;
        let url = Url::read(service.address()).expect("a URL");
        Some(Database { service, kind, url })
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) fn port(&self) -> &str {
        &self.url.port
    }

    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.url.database
    }

    fn client(&self) -> Command {
        let Url { user, password, port, database } = &self.url;
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = Command::new(self.service.variable("STOREFLOW_TEST_POSTGRES_CLIENT"));
                command.args(["-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database]).env("PGPASSWORD", password);
                command.args(["-h", "127.0.0.1", "-p", port, "-U", user]);
                command
            }
            Kind::MariaDb => {
                let mut command = Command::new(self.service.variable("STOREFLOW_TEST_MARIADB_CLIENT"));
                command.args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered", "--database", database]);
                command.args(["--host", "127.0.0.1", "--port", port, "--user", user]).env("MYSQL_PWD", password);
                command
            }
            other => panic!("{other:?} is no database"),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a script; its answer, one line per row, with tabs between columns.
    pub(crate) fn run(&self, script: &str) -> String {
        let mut session = self.session();
        session.say(script);
        session.end()
    }

    /// Runs a script that begins a transaction, and leaves it open.
    pub(crate) fn session_in_transaction(&self, script: &str) -> Session {
        let mut session = self.session();
        session.say(script);
        let open = match self.kind {
            Kind::Postgres => "select count(*) from pg_stat_activity where state = 'idle in transaction';",
            _ => {
                "select count(*) from information_schema.innodb_trx join information_schema.processlist
                 on id = trx_mysql_thread_id where command = 'Sleep';"
            }
        };
        let deadline = Instant::now() + PATIENCE;
        while self.run(open).trim() != "1" {
            assert!(Instant::now() < deadline, "no open transaction after {script}");
            // MariaDB looks anew only where nobody has asked for a tenth of a second.
            std::thread::sleep(Duration::from_millis(250));
        }
        session
    }

    fn session(&self) -> Session {
        let mut child = self.client().spawn().expect("the client starts");
        let input = child.stdin.take();
        Session { child: Some(child), input, said: String::new() }
    }
}

/// A session with a database.
pub(crate) struct Session {
    child: Option<Child>,
    input: Option<ChildStdin>,
    said: String,
}

impl Session {
    /// Hands statements over; they are executed some time after.
    fn say(&mut self, script: &str) {
        let input = self.input.as_mut().expect("it goes on");
        self.said.push_str(script);
        input.write_all(script.as_bytes()).and_then(|()| input.write_all(b"\n")).expect("the client listens");
        input.flush().expect("the client listens");
    }

    /// Commits what was left open.
    pub(crate) fn commit(mut self) {
        self.say("commit;");
        self.end();
    }

    /// Waits until all is executed; the answers.
    fn end(mut self) -> String {
        drop(self.input.take());
        let output = self.child.take().expect("it goes on").wait_with_output().expect("the client ends");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}\n{}", self.said);
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
