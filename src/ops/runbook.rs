//! `docs/OPERATIONS.md` as a page: the operators' page and the alerts link to its sections.
//!
//! **Invariants.** The document is compiled in, so it describes the version that runs. It is the same text as in the
//! repository: headings have the anchors that its links and the alerts' `runbook_url` name.

use std::sync::Arc;

use axum::{Router, routing::get};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::{OperatorFacts, dashboard, get_route};

const DOCUMENT: &str = include_str!("../../docs/OPERATIONS.md");
const STYLE: &str = include_str!("runbook.css");

/// Where it is: the path of the document in the repository.
const PATH: &str = "/docs/OPERATIONS.md";

pub(super) fn runbook_routes() -> Router<Arc<dyn OperatorFacts>> {
    let page = async || dashboard::page_file_response("text/html; charset=utf-8", render_page());
    let style = async || dashboard::page_file_response("text/css; charset=utf-8", STYLE);
    Router::new()
        .route(PATH, get_route(get(page)))
        .route("/docs/runbook.css", get_route(get(style)))
}

fn render_page() -> String {
    let mut out = String::from(concat!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
        "<title>Operations – balance-cache</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"runbook.css\"></head>",
        "<body><nav><a href=\"../dashboard\">Dashboard</a> <a href=\"#alerts\">Alerts</a> <a href=\"#metrics\">Metrics</a> ",
        "<a href=\"#what-happens-when\">What happens when</a></nav><main>"
    ));
    html::push_html(&mut out, markdown_events().into_iter());
    out.push_str("</main></body></html>");
    out
}

/// The document with an anchor for each heading, and without HTML of its own.
fn markdown_events() -> Vec<Event<'static>> {
    let events: Vec<_> = Parser::new_ext(DOCUMENT, Options::ENABLE_TABLES).collect();
    let mut anchors = heading_anchors(&events).into_iter();
    let each = events.into_iter().map(|event| match event {
        Event::Start(Tag::Heading {
            level,
            classes,
            attrs,
            ..
        }) => Event::Start(Tag::Heading {
            level,
            id: anchors.next().map(CowStr::from),
            classes,
            attrs,
        }),
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    each.collect()
}

/// The headings' anchors, in their order: lower case, words joined by hyphens.
fn heading_anchors(events: &[Event<'_>]) -> Vec<String> {
    let (mut anchors, mut heading) = (Vec::new(), None::<String>);
    for event in events {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => anchors.extend(heading.take()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    let kept = text.chars().filter_map(|letter| match letter {
                        ' ' | '-' => Some('-'),
                        '_' => Some('_'),
                        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
                        _ => None,
                    });
                    heading.extend(kept);
                }
            }
            _ => {}
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_the_page_leads_to_a_heading_of_it() {
        let page = render_page();
        let links: Vec<&str> = page
            .split("href=\"#")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(links.len() > 10);
        for link in links {
            assert!(page.contains(&format!("id=\"{link}\"")), "#{link}");
        }
    }

    #[test]
    fn the_page_has_no_code_and_asks_no_other_host() {
        let page = render_page();
        for foreign in ["<script", "src=", "style=\"", "href=\"http"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("<table>") && page.contains("<h3 id=\"balancecachestaleanswer\">"));
    }
}
