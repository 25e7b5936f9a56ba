"""Templates of the program's files."""

from __future__ import annotations

__all__ = ["HEADER", "MAIN", "MAKEFILE", "NETWORK", "SATURATED"]

HEADER = """
/* A spiking network, written by snnfast $version. C99, no dependencies, all memory static.

   $about */
#ifndef SNN_H
#define SNN_H

#include <stdint.h>

#define SNN_INPUTS $inputs /* $input_shape */
#define SNN_OUTPUTS $outputs /* $output_shape */
#define SNN_WEIGHT_BYTES $weight_bytes
#define SNN_MEMORY_BYTES $memory_bytes
#define SNN_LAYERS \\
  "layer,outputs,weight bytes,memory bytes\\n" $layers

/* Forgets what was: the next step is the first. To be called before the first one, too. */
void snn_reset(void);

typedef $input_type snn_input;
typedef $output_type snn_output;

/* One step: the input of this step, and what the network gives after it. Both as PyTorch has them, row by row. Of an
   input that is the same as in the step before give 0: products of it are not computed again. */
void snn_step(const snn_input *input, snn_output *output);
$saturated
#endif
"""

SATURATED = """
/* How many membranes were beyond their limit, and cut, since the program began. */
extern long snn_saturated;
"""

NETWORK = """
#include "snn.h"
$math
$constants

$variables

$functions

void snn_reset(void) {
  steps = 0;
  $resets
}

void snn_step(const snn_input *input, snn_output *output) {
  if (input) {
    for (int n = 0; n < SNN_INPUTS; n++) input_frame[n] = input[n];
    $once
  }
  $calls
  for (int n = 0; n < SNN_OUTPUTS; n++) output[n] = $output[n];
  steps++;
}
"""

MAIN = r"""
/* Reads frames from the standard input and writes what the network gives after each.

     snn            numbers in words, SNN_INPUTS a frame; the word reset begins a new sequence. One line out a frame.
     snn --binary   snn_input in and snn_output out, as the machine has them
     snn --sizes    the bytes of every layer, and nothing else */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snn.h"

static snn_input input[SNN_INPUTS];
static snn_output output[SNN_OUTPUTS];

static int binary(void) {
  size_t found; /* in bytes: of a number that is cut off, fread would not tell */
  while ((found = fread(input, 1, sizeof(input), stdin)) == sizeof(input)) {
    snn_step(input, output);
    if (fwrite(output, sizeof(snn_output), SNN_OUTPUTS, stdout) != SNN_OUTPUTS) return 1;
  }
  if (found == 0) return 0;
  fprintf(stderr, "snn: the last frame has %lu bytes of %lu\n", (unsigned long)found, (unsigned long)sizeof(input));
  return 1;
}

static int text(void) {
  char word[64], *end;
  int found = 0;
  while (scanf("%63s", word) == 1) {
    if (found == 0 && strcmp(word, "reset") == 0) {
      snn_reset();
      continue;
    }
    input[found] = (snn_input)strtof(word, &end);
    if (*end != '\0') {
      fprintf(stderr, "snn: %s is no number\n", word);
      return 1;
    }
    if (++found < SNN_INPUTS) continue;
    found = 0;
    snn_step(input, output);
    for (int n = 0; n < SNN_OUTPUTS; n++) printf(n ? " %.10g" : "%.10g", (double)output[n]);
    printf("\n");
  }
  if (found == 0) return 0;
  fprintf(stderr, "snn: the last frame has %d numbers of %d\n", found, SNN_INPUTS);
  return 1;
}

int main(int count, char **words) {
  snn_reset();
  if (count == 2 && strcmp(words[1], "--sizes") == 0) {
    printf("%sall,,%d,%d\n", SNN_LAYERS, SNN_WEIGHT_BYTES, SNN_MEMORY_BYTES);
    return 0;
  }
  if (count == 2 && strcmp(words[1], "--binary") == 0) return binary();
  if (count == 1) return text();
  fprintf(stderr, "usage: snn [--binary | --sizes]\n");
  return 2;
}
"""

MAKEFILE = """
# No fused multiply-adds and no -ffast-math: they would change roundings, and with them spikes.
CFLAGS = -std=c99 -O3 -ffp-contract=off

snn: main.c snn.c snn.h
\t$(CC) $(CFLAGS) -o $@ main.c snn.c
"""
