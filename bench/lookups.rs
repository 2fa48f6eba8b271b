//! Looks up random keys like a node whose cache is empty, and prints the lookups per second.
//! bench/README.md describes the pair `gathered`, which uses this rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use tollgate::{
    domain::{api_key::KeyText, tenant::Tenant},
    store::{KeyRead, PoolSettings, Store},
};

#[derive(Parser)]
struct Arguments {
    /// The number of keys in the database. Keys are numbered from 0.
    #[arg(long)]
    keys: u64,
    /// The number of concurrent lookups.
    #[arg(long)]
    tasks: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let store = Arc::new(Store::connect(&PoolSettings::for_url(&arguments.database_url)).await?);
    let tenant = store.tenant_of_key(&key(0)).await?.ok_or("no tenant has the key prefix ta_")?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let tasks: Vec<_> = (0..arguments.tasks)
        .map(|seed| {
            let (store, tenant) = (Arc::clone(&store), Arc::clone(&tenant));
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                look_up(&store, &tenant, arguments.keys, seed, &stop, &done).await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let (looked_up, took) = (done.load(Ordering::Relaxed), began.elapsed());
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    println!("{:.1}", looked_up as f64 / took.as_secs_f64());
    Ok(())
}

async fn look_up(
    store: &Arc<Store>,
    tenant: &Tenant,
    keys: u64,
    seed: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
) {
    let server = store.server().await.expect("Postgres responds");
    let mut state = seed;
    while !stop.load(Ordering::Relaxed) {
        let hash = key(random(&mut state) % keys).hash();
        let found = store.verify_api_key(tenant, &hash, server).await;
        let is_found = matches!(found, Ok(KeyRead::Found(_)));
        assert!(is_found, "the database contains every key: {found:?}");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn key(number: u64) -> KeyText {
    KeyText::parse(&format!("ta_{number:043}")).expect("well formed")
}

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
