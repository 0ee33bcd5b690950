//! Trains a small network twice: with the state of its optimizer in memory, and in a swapper whose budget is a fraction of it.
//! `cargo run --release -p deepring-tensors --example adam -- DIRECTORY [WIDTH [STEPS]]`.
//!
//! The network tells points of two interleaved spirals apart: layers of WIDTH neurons with tanh between them. Its weights stay
//! in memory, as in a program that computes gradients with them; the optimizer's own weights, both moments of Adam and the
//! gradients of each layer are a group of the swapper. Losses and weights must be the same, bit for bit.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::Engine;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerStats, OptimizerSwapper, Write};
use deepring_tensors::{DType, Result};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Points that are learned.
const POINTS: usize = 64;

/// Layers between the first and the last one.
const HIDDEN_LAYERS: usize = 8;

const BETAS: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |nth: usize, default: usize| arguments.get(nth).map_or(Some(default), |text| text.parse().ok());
    let (Some(directory), Some(width), Some(steps)) = (arguments.first(), number(1, 512), number(2, 20)) else {
        eprintln!("usage: adam DIRECTORY [WIDTH [STEPS]]");
        return ExitCode::from(2);
    };
    match compare(Path::new(directory), width, steps) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("adam: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Trains both ways, and says what came of it.
fn compare(directory: &Path, width: usize, steps: usize) -> Result<String> {
    let memory = train(&mut InMemory::new(width), width, steps)?;
    let mut optimizer = Swapped::open(directory, width, Depth::Auto)?;
    let swapped = train(&mut optimizer, width, steps)?;
    let stats = optimizer.finish()?;
    let equal = if swapped == memory { "bit-equal to those in memory" } else { "NOT those in memory" };
    let (first, last) = (swapped.losses[0], swapped.losses[steps - 1]);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let per_step = |time: Duration| time.as_secs_f64() * 1e3 / steps as f64;
    Ok(format!(
        "loss {first:.4} to {last:.4} in {steps} steps; losses and weights are {equal}\n\
         state {:.1} MiB, budget {:.1} MiB, depth {}\n\
         a step: optimizer {:.2} ms, in memory {:.2} ms; read {:.1} MiB, written {:.1} MiB; overlap {:.2}",
        mib(state_bytes(width)),
        mib(stats.memory),
        stats.depth,
        per_step(swapped.time),
        per_step(memory.time),
        mib(stats.read) / steps as f64,
        mib(stats.written) / steps as f64,
        stats.overlap(),
    ))
}

/// What came of a training.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) losses: Vec<f32>,
    pub(crate) weights: Vec<Vec<f32>>,
    /// That the optimizer took.
    pub(crate) time: Duration,
}

/// To the bit.
impl PartialEq for Trained {
    fn eq(&self, other: &Self) -> bool {
        let bits = |floats: &[f32]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
        let weights = |trained: &Self| trained.weights.iter().map(|layer| bits(layer)).collect::<Vec<_>>();
        bits(&self.losses) == bits(&other.losses) && weights(self) == weights(other)
    }
}

/// Updates weights by their gradients.
pub(crate) trait Optimizer {
    fn begin(&mut self, weights: &[Vec<f32>]) -> Result<()>;
    fn step(&mut self, time: i32, weights: &mut [Vec<f32>], gradients: &[Vec<f32>]) -> Result<()>;
}

pub(crate) fn train(optimizer: &mut impl Optimizer, width: usize, steps: usize) -> Result<Trained> {
    let mut network = Network::new(width);
    optimizer.begin(&network.weights)?;
    let (mut losses, mut time) = (Vec::new(), Duration::ZERO);
    for step in 1..=steps {
        let (loss, gradients) = network.learn();
        losses.push(loss);
        let begun = Instant::now();
        optimizer.step(step as i32, &mut network.weights, &gradients)?;
        time += begun.elapsed();
    }
    Ok(Trained { losses, weights: network.weights, time })
}

/// The rate of learning: what a layer computes changes with the sum over its width.
fn rate(width: usize) -> f32 {
    0.1 / width as f32
}

/// One element of Adam.
fn adam(rate: f32, time: i32, param: &mut f32, first: &mut f32, second: &mut f32, gradient: f32) {
    *first = BETAS.0 * *first + (1.0 - BETAS.0) * gradient;
    *second = BETAS.1 * *second + (1.0 - BETAS.1) * gradient * gradient;
    let unbiased = (*first / (1.0 - BETAS.0.powi(time)), *second / (1.0 - BETAS.1.powi(time)));
    *param -= rate * unbiased.0 / (unbiased.1.sqrt() + EPSILON);
}

/// All state in memory.
#[derive(Debug)]
pub(crate) struct InMemory {
    rate: f32,
    /// Both moments of every layer.
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl InMemory {
    pub(crate) fn new(width: usize) -> Self {
        Self { rate: rate(width), moments: Vec::new() }
    }
}

impl Optimizer for InMemory {
    fn begin(&mut self, weights: &[Vec<f32>]) -> Result<()> {
        self.moments = weights.iter().map(|layer| (vec![0.0; layer.len()], vec![0.0; layer.len()])).collect();
        Ok(())
    }

    fn step(&mut self, time: i32, weights: &mut [Vec<f32>], gradients: &[Vec<f32>]) -> Result<()> {
        for ((layer, (first, second)), gradient) in weights.iter_mut().zip(&mut self.moments).zip(gradients) {
            for (((param, first), second), gradient) in layer.iter_mut().zip(first).zip(second).zip(gradient) {
                adam(self.rate, time, param, first, second, *gradient);
            }
        }
        Ok(())
    }
}

/// Bytes of the optimizer's state, with gradients.
pub(crate) fn state_bytes(width: usize) -> u64 {
    Network::shapes(width).iter().map(|(rows, columns)| (rows * (columns + 1)) as u64 * 16).sum()
}

/// All state in a swapper.
pub(crate) struct Swapped {
    rate: f32,
    swapper: OptimizerSwapper,
}

impl Swapped {
    /// With just the memory that this depth needs, or for `Auto` a depth of one.
    pub(crate) fn open(directory: &Path, width: usize, depth: Depth) -> Result<Self> {
        let groups: Vec<Group> = Network::shapes(width)
            .iter()
            .enumerate()
            .map(|(nth, (rows, columns))| Group::new(name(nth), (rows * (columns + 1)) as u64))
            .map(|group| group.states(["exp_avg", "exp_avg_sq"]).gradient(DType::F32))
            .collect();
        let at_once = 2 * if let Depth::Groups(depth) = depth { depth as u64 } else { 1 } + 1;
        let largest = groups.iter().map(|group| 4 * (group.numel * 4).next_multiple_of(4096)).max().unwrap_or(0);
        let options = OptimizerOptions::new(groups).depth(depth).memory(at_once * largest).create(true);
        let swapper = OptimizerSwapper::open(&Engine::builder().build()?, directory, options).wait()?;
        Ok(Self { rate: rate(width), swapper })
    }

    pub(crate) fn finish(self) -> Result<OptimizerStats> {
        let stats = self.swapper.stats();
        self.swapper.close().wait()?;
        Ok(stats)
    }
}

fn name(layer: usize) -> String {
    format!("layer{layer}")
}

fn bytes_of(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

/// The elements of a part.
fn floats(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8; 4]> {
    bytes.as_chunks_mut().0.iter_mut()
}

impl Optimizer for Swapped {
    fn begin(&mut self, weights: &[Vec<f32>]) -> Result<()> {
        for (nth, layer) in weights.iter().enumerate() {
            // The moments are zero in the beginning: they are neither written nor read.
            self.swapper.initialize(&name(nth), [("param", bytes_of(layer))]).wait()?;
        }
        Ok(())
    }

    fn step(&mut self, time: i32, weights: &mut [Vec<f32>], gradients: &[Vec<f32>]) -> Result<()> {
        // As from a backward pass: the last layer first.
        for (nth, gradient) in gradients.iter().enumerate().rev() {
            self.swapper.put_gradient(&name(nth), 0, bytes_of(gradient)).wait()?;
        }
        let mut step = self.swapper.step()?;
        for layer in weights {
            let Some(group) = step.wait_next() else { break };
            let mut group = group?;
            let mut parts = group.parts();
            let [first, second] = &mut parts.states[..] else { continue };
            let Some(gradient) = parts.gradient else { continue };
            let state = floats(parts.param).zip(floats(first)).zip(floats(second)).zip(floats(gradient));
            for ((((param, first), second), gradient), weight) in state.zip(layer) {
                let (mut m, mut v) = (f32::from_le_bytes(*first), f32::from_le_bytes(*second));
                *weight = f32::from_le_bytes(*param);
                adam(self.rate, time, weight, &mut m, &mut v, f32::from_le_bytes(*gradient));
                (*param, *first, *second) = (weight.to_le_bytes(), m.to_le_bytes(), v.to_le_bytes());
            }
            group.close(Write::All)?;
        }
        Ok(())
    }
}

/// Layers with tanh between them. The weights of a neuron are a row; the last of them is its bias.
struct Network {
    shapes: Vec<(usize, usize)>,
    weights: Vec<Vec<f32>>,
}

impl Network {
    /// Rows and columns of each layer, without biases.
    fn shapes(width: usize) -> Vec<(usize, usize)> {
        let hidden = std::iter::repeat_n((width, width), HIDDEN_LAYERS);
        [(width, 2)].into_iter().chain(hidden).chain([(1, width)]).collect()
    }

    fn new(width: usize) -> Self {
        let shapes = Self::shapes(width);
        let mut seed = 1u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let layer =
            |(rows, columns): &(usize, usize)| (0..rows * (columns + 1)).map(|_| random() * 1.7 / (*columns as f32).sqrt()).collect();
        Self { weights: shapes.iter().map(layer).collect(), shapes }
    }

    /// A point of two spirals, and which of them it is on.
    fn point(nth: usize) -> ([f32; 2], f32) {
        let (arm, at) = ((nth % 2) as f32, (nth / 2) as f32 / (POINTS / 2) as f32);
        let angle = at * 4.0 + arm * std::f32::consts::PI;
        ([(0.2 + at) * angle.cos(), (0.2 + at) * angle.sin()], arm * 2.0 - 1.0)
    }

    /// The mean squared error over all points, and its gradient for each weight.
    fn learn(&self) -> (f32, Vec<Vec<f32>>) {
        let mut gradients: Vec<Vec<f32>> = self.weights.iter().map(|layer| vec![0.0; layer.len()]).collect();
        let mut loss = 0.0;
        for nth in 0..POINTS {
            let (input, expected) = Self::point(nth);
            let mut values = vec![input.to_vec()];
            for (layer, (_, columns)) in self.weights.iter().zip(&self.shapes) {
                let before = &values[values.len() - 1];
                let neuron = |row: &[f32]| row[..*columns].iter().zip(before).fold(row[*columns], |sum, (w, x)| sum + w * x).tanh();
                values.push(layer.chunks_exact(columns + 1).map(neuron).collect());
            }
            let error = values[self.shapes.len()][0] - expected;
            loss += error * error / POINTS as f32;
            let mut behind = vec![2.0 * error / POINTS as f32];
            for (nth, (_, columns)) in self.shapes.iter().enumerate().rev() {
                let mut ahead = vec![0.0; *columns];
                let rows = self.weights[nth].chunks_exact(columns + 1).zip(gradients[nth].chunks_exact_mut(columns + 1));
                for ((row, gradient), (value, error)) in rows.zip(values[nth + 1].iter().zip(&behind)) {
                    let slope = error * (1.0 - value * value);
                    for (at, input) in values[nth].iter().enumerate() {
                        gradient[at] += slope * input;
                        ahead[at] += slope * row[at];
                    }
                    gradient[*columns] += slope;
                }
                behind = ahead;
            }
        }
        (loss, gradients)
    }
}
