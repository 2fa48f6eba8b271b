//! A stub of the browser wallet TronLink. The test supplies the signature.

use serde_json::json;

use super::world::{Scripts, World};
use crate::harness::eventually;

pub const LOGIN: &str = "/dashboard/tronagg/login";
pub const VERIFY: &str = "/dashboard/tronagg/login/verify";

/// Adds the wallet to every page that the browser opens after this call. A request for a signature
/// waits in `window.asked` until the test answers it.
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

/// Chooses the account on the sign-in page. Returns the message to sign.
pub async fn request_message(world: &World, address: &str) -> String {
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

/// Returns the message that the page asks the wallet to sign. With JavaScript, also asserts that
/// the page sends this message to the wallet.
pub async fn message(world: &World) -> String {
    world.find("#message").await;
    let shown = world.run("return document.querySelector('#message').textContent").await;
    let shown = shown.as_str().expect("a text").to_owned();
    if world.scripts == Scripts::On {
        world.click("#sign").await;
        let is_asked = async || !world.run_or_null("return window.asked?.message").await.is_null();
        eventually("the wallet is asked", is_asked).await;
        let asked = world.run("return window.asked.message").await;
        assert_eq!(asked, json!(shown), "the wallet gets the message that the page shows");
    }
    shown
}

/// Submits the signature. With JavaScript, the wallet sends it. Otherwise, the browser types it
/// into the form.
pub async fn submit_signature(world: &World, signature: &str) {
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
