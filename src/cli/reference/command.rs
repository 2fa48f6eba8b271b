use clap::{Args, Command, ValueEnum};

use super::{commands, errors, http_api, metrics, settings};
use crate::{cli::output::outln, http};

#[derive(Args)]
pub struct Reference {
    /// Page to print
    #[arg(value_enum)]
    page: Page,
}

#[derive(Clone, Copy, ValueEnum)]
enum Page {
    Settings,
    Commands,
    Errors,
    Metrics,
    HttpApi,
}

impl Reference {
    /// Prints the page. `tollgate` is the definition of the whole command line.
    pub fn run(self, tollgate: Command) -> anyhow::Result<()> {
        let page = match self.page {
            Page::Settings => settings::page(&tollgate),
            Page::Commands => commands::page(tollgate),
            Page::Errors => errors::page(),
            Page::Metrics => metrics::page(),
            Page::HttpApi => http_api::page(&serde_json::to_value(http::openapi_document())?),
        };
        outln!("{}", page.trim_end())
    }
}
