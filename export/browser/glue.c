/* What local.js calls: the portable sources with the web's pixels in and plain numbers out. */
#include "cxr_edge.h"

#define SHOWN(name) __attribute__((export_name(#name)))

static cxr_seen seen;
static double logits[64], findings[64], distance;
static int accepted;

/* A freestanding build has no library. */
void *memset(void *to, int value, size_t count)
{
    uint8_t *bytes = to;
    while (count--)
        *bytes++ = (uint8_t)value;
    return to;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a - *b;
}

/* rgba: `count` pixels -> grey, by ITU-R 601-2 luma in 16 bits. Both may be the same memory. */
SHOWN(luma) void luma(const uint8_t *rgba, int count, uint8_t *grey)
{
    for (int i = 0; i < count; i++)
        grey[i] = (uint8_t)((rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 +
                             rgba[4 * i + 2] * 7471 + 0x8000) >> 16);
}

/* Mean spread between the primary colours, at some 64 places a side. */
SHOWN(chroma) double chroma(const uint8_t *rgba, int height, int width)
{
    const int shorter = height < width ? height : width, step = shorter / 64 > 1 ? shorter / 64 : 1;
    double sum = 0, places = 0;
    for (int y = step / 2; y < height; y += step)
        for (int x = step / 2; x < width; x += step) {
            const uint8_t *at = rgba + 4 * ((size_t)y * (size_t)width + (size_t)x);
            const int high = at[0] > at[1] ? at[0] : at[1], low = at[0] < at[1] ? at[0] : at[1];
            sum += (high > at[2] ? high : at[2]) - (low < at[2] ? low : at[2]);
            places++;
        }
    return places ? sum / places : 0;
}

/* Means of `step` by `step` pixels, in place: stands in for a decoder's reduced scale. Pixels over
 * the last whole block are averaged with what there is. */
SHOWN(shrink) void shrink(uint8_t *grey, int height, int width, int step)
{
    const int rows = (height + step - 1) / step, columns = (width + step - 1) / step;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            int sum = 0, count = 0;
            for (int y = row * step; y < (row + 1) * step && y < height; y++)
                for (int x = column * step; x < (column + 1) * step && x < width; x++) {
                    sum += grey[(size_t)y * (size_t)width + (size_t)x];
                    count++;
                }
            grey[(size_t)row * (size_t)columns + (size_t)column] =
                (uint8_t)((2 * sum + count) / (2 * count));
        }
}

/* Big-endian 16-bit pixels -> 8 bits, in place. */
SHOWN(narrow) void narrow(uint8_t *pixels, int count)
{
    uint16_t largest = 0;
    for (int i = 0; i < count; i++) {
        const uint16_t value = (uint16_t)(pixels[2 * i] << 8 | pixels[2 * i + 1]);
        largest = value > largest ? value : largest;
    }
    for (int i = 0; i < count; i++)
        pixels[i] =
            cxr_to_8_bits((uint16_t)(pixels[2 * i] << 8 | pixels[2 * i + 1]), largest);
}

SHOWN(scratch_bytes) size_t scratch_bytes(int height, int width)
{
    return cxr_scratch_bytes(height, width);
}

SHOWN(prepare) int prepare(const uint8_t *grey, int height, int width, uint8_t *tensor,
                           void *scratch, size_t bytes)
{
    return cxr_prepare(grey, height, width, (size_t)width, tensor, scratch, bytes);
}

/* Flags of a film; `is_accepted` and `ood_score` then say the rest. */
SHOWN(judge) int judge(int height, int width, double chroma, const uint8_t *tensor,
                       const float *features)
{
    cxr_look(height, width, chroma, tensor, &seen);
    return cxr_weigh(&seen, features, &accepted, &distance);
}

SHOWN(is_accepted) int is_accepted(void)
{
    return accepted;
}

SHOWN(ood_score) double ood_score(void)
{
    return distance;
}

/* The probability of any disease; `logit` and `finding` then tell more. */
SHOWN(probability) double probability(const float *map, const float *features)
{
    cxr_logits(map, cxr_bundle.offset_onnx, logits);
    if (cxr_bundle.findings)
        cxr_finding_probabilities(logits, findings);
    return cxr_probability(logits, features);
}

SHOWN(logit) double logit(int unit)
{
    return logits[unit];
}

SHOWN(finding) double finding(int i)
{
    return findings[i];
}

static const cxr_point *point_of(int point, int population)
{
    return (population < 0 ? cxr_bundle.point : cxr_bundle.population[population].points) + point;
}

/* 0 normal, 1 uncertain, 2 positive. population: -1 for the points of all. */
SHOWN(decide) int decide(int point, int population, double probability)
{
    return (int)cxr_decide(point_of(point, population), probability);
}

SHOWN(decide_finding) int decide_finding(int i, int point)
{
    return (int)cxr_decide(cxr_bundle.finding[i].points + point, findings[i]);
}
