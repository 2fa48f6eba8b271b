//! A wallet in the browser: what TronLink gives to pages, whose owner decides in the test.

use serde_json::json;

use super::world::{Scripts, World};
use crate::harness::eventually;

pub const LOGIN: &str = "/dashboard/tronagg/login";
pub const VERIFY: &str = "/dashboard/tronagg/login/verify";

/// Puts the wallet into every page that is opened from here on. What it is asked to sign waits in
/// `window.asked` for an answer.
pub async fn install(world: &World, address: &str) {
    let script = "(() => {
        const tronWeb = {
            ready: true,
            defaultAddress: { base58: 'ADDRESS', hex: '' },
            trx: {
                signMessageV2: message => new Promise((answer, refuse) => {
                    window.asked = { message, answer, refuse };
                }),
            },
        };
        const request = async ({ method }) => {
            if (method === 'eth_requestAccounts') return ['ADDRESS'];
            if (method === 'tron_requestAccounts') return { code: 200, message: 'ok' };
            throw new Error('no such method: ' + method);
        };
        window.tronWeb = tronWeb;
        window.tronLink = { ready: true, request, tronWeb };
        window.tron = { isTronLink: true, request, tronWeb, on() {}, removeListener() {} };
    })()";
    let source = script.replace("ADDRESS", address);
    let parameters = json!({"source": source});
    world.driver.devtools("Page.addScriptToEvaluateOnNewDocument", parameters).await;
}

/// Says which account it is, on the page for signing in. Returns the message to sign.
pub async fn begin(world: &World, address: &str) -> String {
    world.open(LOGIN).await;
    match world.scripts {
        Scripts::On => world.click("#connect").await,
        Scripts::Off => {
            world.fill("#address", address).await;
            world.click("#continue").await;
        }
    }
    message(world).await
}

/// The message on the page, which with JavaScript goes to the wallet.
pub async fn message(world: &World) -> String {
    world.find("#message").await;
    let shown = world.run("return document.querySelector('#message').textContent").await;
    let shown = shown.as_str().expect("a text").to_owned();
    if world.scripts == Scripts::On {
        world.click("#sign").await;
        let is_asked = async || !world.peek("return window.asked?.message").await.is_null();
        eventually("the wallet is asked", is_asked).await;
        let asked = world.run("return window.asked.message").await;
        assert_eq!(asked, json!(shown), "it is asked for what is shown");
    }
    shown
}

/// Gives the signature to the page: the wallet does, or a person types it in.
pub async fn answer(world: &World, signature: &str) {
    match world.scripts {
        Scripts::On => {
            let script = "window.asked.answer(arguments[0])";
            let done = world.client().execute(script, vec![json!(signature)]).await;
            done.expect("the wallet answers");
        }
        Scripts::Off => {
            world.fill("#signature", signature).await;
            world.click("#verify").await;
        }
    }
}
