use super::*;
use crate::commit::Shortage;

fn body(problem: &Problem) -> serde_json::Value {
    serde_json::to_value(problem.document(Some("r-1"))).unwrap()
}

#[test]
fn an_answer_does_not_grow_with_the_names_that_are_wrong_in_a_request() {
    let long = "\u{e4}".repeat(100_000);
    let problem =
        Problem::fault(Code::ValidationFailed, format!("/x{long}"), format!("{long} is none"));
    assert!(body(&problem).to_string().len() < 5_000);
    let exact = "x".repeat(SHOWN_BYTES_MAX);
    let problem = Problem::fault(Code::ValidationFailed, exact.clone(), exact.clone());
    assert_eq!(body(&problem)["errors"][0], serde_json::json!({"pointer": exact, "detail": exact}));
}

#[test]
fn every_code_has_its_own_word_and_an_error_status() {
    let mut words: Vec<_> = Code::ALL.iter().map(|code| code.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!((400..600).contains(&code.status()) && !code.title().is_empty(), "{code:?}");
    }
    assert!(Code::ALL.is_sorted_by_key(|code| code.status() / 100));
}

#[test]
fn a_problem_has_the_members_of_the_contract_and_no_cause() {
    let problem = Problem::internal(&"canary: the disk is gone");
    assert_eq!(
        body(&problem),
        serde_json::json!({
            "type": "/docs/problems#internal", "title": "Internal server error", "status": 500,
            "detail": "the request failed inside the server; its log has the cause with this \
             request_id", "code": "internal", "request_id": "r-1",
        })
    );
    assert_eq!(problem.cause(), Some("canary: the disk is gone"));
    let mismatch = body(&Problem::dedup_mismatch(EventId(1)));
    assert_eq!(mismatch["event_id"], EventId(1).to_string());
}

#[test]
fn faults_are_all_named_up_to_a_limit() {
    let mut faults = Faults::default();
    for number in 0..FAULTS_MAX + 7 {
        faults.add(format!("/{number}"), "wrong");
    }
    let body = body(&faults.into_result().unwrap_err());
    assert_eq!(body["errors"].as_array().unwrap().len(), FAULTS_MAX);
    assert_eq!(body["detail"], "the request has 107 faults; `errors` lists the first 100");
    assert_eq!(pointer("/labels", "a/b~c"), "/labels/a~1b~0c");
}

#[test]
fn answers_say_when_to_come_again_and_which_methods_there_are() {
    let header = |problem: &Problem, name: &str| {
        let response = problem.render("r-1");
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for refused in [
        Refused::Overloaded,
        Refused::DiskFull(Shortage::Files),
        Refused::RestKept,
        Refused::ShuttingDown,
    ] {
        assert_eq!(header(&refused.into(), "retry-after").as_deref(), Some("1"), "{refused:?}");
    }
    assert_eq!(
        header(&Problem::method_not_allowed("GET, HEAD"), "allow").as_deref(),
        Some("GET, HEAD")
    );
    let coding = Problem::unsupported_coding(b"br");
    assert_eq!(
        (coding.code(), header(&coding, "accept-encoding").as_deref()),
        (Code::UnsupportedMediaType, Some("gzip"))
    );
    let unauthorized = Problem::new(Code::Unauthorized, "no");
    assert_eq!(header(&unauthorized, "accept-encoding"), None);
    assert!(header(&unauthorized, "www-authenticate").is_some());
    assert_eq!(header(&unauthorized, "content-type").as_deref(), Some(PROBLEM_JSON));
}
