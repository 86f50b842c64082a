/* See cxr_edge.h. Written to be read beside edge_runtime/images/preprocess.py, judge/scores.py and
 * judge/quality.py, which define all of it. */
#include "cxr_edge.h"

#include <math.h>
#include <string.h>

/* --- resize ------------------------------------------------------------------------------------
 *
 * Pillow's: a triangle of half-width max(1, in / out) around each output's centre, weights divided
 * by their sum, and rounded to 22 bits. With whole numbers: output o's centre lies at
 * (2 o + 1) in / (2 out), pixel i's at (2 i + 1) / 2. When shrinking, its weight is
 * (2 in - |(2 i + 1) out - (2 o + 1) in|) / (2 in), when enlarging the same over (2 out); the
 * denominator leaves with the sum.
 */
enum { PRECISION = 22 };

static int most_taps(int in, int out)
{
    return in > out ? 2 * ((in + out - 1) / out) + 1 : 3;
}

/* Weights of output o, and where they begin; the number of them. */
static int weights_of(int o, int in, int out, int32_t *weights, int *first)
{
    const int64_t half = in > out ? 2 * (int64_t)in : 2 * (int64_t)out;
    const int64_t centre = (2 * (int64_t)o + 1) * in;
    int from = (int)((centre - half) / (2 * (int64_t)out)) - 1;
    int count = 0;
    int64_t sum = 0;
    if (from < 0)
        from = 0;
    *first = from;
    for (int i = from; i < in; i++) {
        int64_t apart = (2 * (int64_t)i + 1) * out - centre;
        if (apart < 0)
            apart = -apart;
        if (apart >= half) {
            if (count)
                break;
            *first = i + 1;
            continue;
        }
        weights[count++] = (int32_t)(half - apart); /* under 2^18 for any side that is taken */
        sum += half - apart;
    }
    for (int k = 0; k < count; k++)
        weights[k] = (int32_t)((((int64_t)weights[k] << (PRECISION + 1)) + sum) / (2 * sum));
    return count;
}

typedef struct {
    int32_t *weights; /* (out, taps) */
    int32_t *first, *count;
    int taps;
} table;

static size_t table_bytes(int in, int out)
{
    return (size_t)out * ((size_t)most_taps(in, out) + 2) * sizeof(int32_t);
}

static table make_table(int in, int out, void *memory)
{
    table made;
    made.taps = most_taps(in, out);
    made.weights = (int32_t *)memory;
    made.first = made.weights + (size_t)out * (size_t)made.taps;
    made.count = made.first + out;
    for (int o = 0; o < out; o++) {
        int first;
        made.count[o] = weights_of(o, in, out, made.weights + (size_t)o * (size_t)made.taps, &first);
        made.first[o] = first;
    }
    return made;
}

static uint8_t rounded(int64_t sum)
{
    sum = (sum + (1 << (PRECISION - 1))) >> PRECISION;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

size_t cxr_resize_scratch_bytes(int height, int width, int to_height, int to_width)
{
    if (height < 1 || width < 1 || height > CXR_LARGEST_SIDE || width > CXR_LARGEST_SIDE ||
        to_height < 1 || to_width < 1 || to_height > 4096 || to_width > 4096)
        return 0;
    return table_bytes(width, to_width) + table_bytes(height, to_height) +
           (size_t)height * (size_t)to_width;
}

int cxr_resize(const uint8_t *grey, int height, int width, size_t stride, int to_height,
               int to_width, uint8_t *out, void *scratch, size_t scratch_bytes)
{
    const size_t needed = cxr_resize_scratch_bytes(height, width, to_height, to_width);
    if (!needed || stride < (size_t)width)
        return CXR_BAD_SIZE;
    if (!scratch || scratch_bytes < needed)
        return CXR_SCRATCH_TOO_SMALL;
    uint8_t *memory = (uint8_t *)scratch;
    const table across = make_table(width, to_width, memory);
    memory += table_bytes(width, to_width);
    const table down = make_table(height, to_height, memory);
    uint8_t *rows = memory + table_bytes(height, to_height);
    for (int y = 0; y < height; y++) {
        const uint8_t *line = grey + (size_t)y * stride;
        uint8_t *to = rows + (size_t)y * (size_t)to_width;
        for (int x = 0; x < to_width; x++) {
            const int32_t *weight = across.weights + (size_t)x * (size_t)across.taps;
            const uint8_t *from = line + across.first[x];
            int64_t sum = 0;
            for (int k = 0; k < across.count[x]; k++)
                sum += (int64_t)weight[k] * from[k];
            to[x] = rounded(sum);
        }
    }
    for (int y = 0; y < to_height; y++) {
        const int32_t *weight = down.weights + (size_t)y * (size_t)down.taps;
        for (int x = 0; x < to_width; x++) {
            const uint8_t *from = rows + (size_t)down.first[y] * (size_t)to_width + x;
            int64_t sum = 0;
            for (int k = 0; k < down.count[y]; k++)
                sum += (int64_t)weight[k] * from[(size_t)k * (size_t)to_width];
            out[(size_t)y * (size_t)to_width + (size_t)x] = rounded(sum);
        }
    }
    return CXR_OK;
}

size_t cxr_scratch_bytes(int height, int width)
{
    return cxr_resize_scratch_bytes(height, width, cxr_bundle.height, cxr_bundle.width);
}

int cxr_prepare(const uint8_t *grey, int height, int width, size_t stride, uint8_t *tensor,
                void *scratch, size_t scratch_bytes)
{
    return cxr_resize(grey, height, width, stride, cxr_bundle.height, cxr_bundle.width, tensor,
                      scratch, scratch_bytes);
}

uint8_t cxr_to_8_bits(uint16_t value, uint16_t largest)
{
    uint32_t most = 255;
    for (int depth = 10; most < largest; depth += 2)
        most = (1u << depth) - 1;
    return (uint8_t)(((uint32_t)value * 255 + most / 2) / most);
}

/* --- scores ------------------------------------------------------------------------------------ */

static double sigmoid(double logit)
{
    return logit > -700 ? 1 / (1 + exp(-logit)) : 0;
}

static double softplus(double value)
{
    return value > 0 ? value + log1p(exp(-value)) : log1p(exp(value));
}

void cxr_logits(const float *map, const double *offset, double *logits)
{
    const int cells = cxr_bundle.rows * cxr_bundle.columns, units = cxr_bundle.units;
    for (int unit = 0; unit < units; unit++) {
        double sum = 0;
        for (int cell = 0; cell < cells; cell++)
            sum += map[cell * units + unit];
        logits[unit] = sum / cells + offset[unit];
    }
}

/* Log odds of any disease. */
static double disease_logit(const double *logits)
{
    const int units = cxr_bundle.units;
    if (!cxr_bundle.softmax) {
        if (units == 1)
            return logits[0];
        double none = 0; /* -log of the probability of no finding */
        for (int unit = 0; unit < units; unit++)
            none += softplus(logits[unit]);
        if (none < 1e-300)
            none = 1e-300;
        return none + log(-expm1(-none));
    }
    double largest = logits[1], sum = 0;
    for (int unit = 2; unit < units; unit++)
        largest = logits[unit] > largest ? logits[unit] : largest;
    for (int unit = 1; unit < units; unit++)
        sum += exp(logits[unit] - largest);
    return largest + log(sum) - logits[0];
}

double cxr_probability(const double *logits, const float *features)
{
    double moved = 0;
    if (cxr_bundle.weights)
        for (int i = 0; i < cxr_bundle.features; i++)
            moved += (double)cxr_bundle.weights[i] * (double)features[i];
    const double score = cxr_bundle.slope * disease_logit(logits) + cxr_bundle.bias + moved;
    return sigmoid(score / cxr_bundle.temperature);
}

void cxr_finding_probabilities(const double *logits, double *probabilities)
{
    if (!cxr_bundle.softmax) {
        for (int i = 0; i < cxr_bundle.findings; i++)
            probabilities[i] = sigmoid(logits[i] / cxr_bundle.finding[i].temperature);
        return;
    }
    const double disease = sigmoid(disease_logit(logits) / cxr_bundle.temperature);
    double largest = logits[1], sum = 0;
    for (int unit = 2; unit < cxr_bundle.units; unit++)
        largest = logits[unit] > largest ? logits[unit] : largest;
    for (int i = 0; i < cxr_bundle.findings; i++)
        sum += probabilities[i] = exp(logits[1 + i] - largest);
    for (int i = 0; i < cxr_bundle.findings; i++)
        probabilities[i] *= disease / sum;
}

cxr_decision cxr_decide(const cxr_point *point, double probability)
{
    if (point->uncertain_from <= probability && probability < point->uncertain_to)
        return CXR_UNCERTAIN;
    return probability >= point->threshold ? CXR_POSITIVE : CXR_NORMAL;
}

const cxr_point *cxr_find_point(const char *name, const char *population)
{
    const cxr_point *points = cxr_bundle.point;
    if (population) {
        points = NULL;
        for (int i = 0; i < cxr_bundle.populations; i++)
            if (!strcmp(cxr_bundle.population[i].name, population))
                points = cxr_bundle.population[i].points;
    }
    for (int i = 0; points && i < cxr_bundle.points; i++)
        if (!strcmp(points[i].name, name))
            return points + i;
    return NULL;
}

/* --- the quality gate -------------------------------------------------------------------------- */

#define PLAINLY_NEGATIVE 0.35 /* a negative's correlation with the mean film is below minus this */

static double half(uint16_t bits)
{
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    /* Neither infinity nor NaN: no bundle holds them. */
    const double whole = exponent ? 1 + fraction / 1024.0 : fraction / 1024.0;
    const int power = exponent ? exponent - 15 : -14;
    const double value = power < 0 ? whole / (1 << -power) : whole * (1 << power);
    return bits & 0x8000 ? -value : value;
}

static double dot_half(const uint16_t *weights, const float *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += half(weights[i]) * values[i];
    return sum;
}

/* Means over side x side cells of what `at` gives for (y, x). */
typedef double (*pixel_of)(const uint8_t *tensor, int y, int x, int step);

static void cell_means(const uint8_t *tensor, pixel_of at, int height, int width, int step, int side,
                       double *means)
{
    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++) {
            const int top = row * height / side, bottom = (row + 1) * height / side;
            const int left = column * width / side, right = (column + 1) * width / side;
            double sum = 0;
            for (int y = top; y < bottom; y++)
                for (int x = left; x < right; x++)
                    sum += at(tensor, y, x, step);
            means[row * side + column] = sum / ((double)(bottom - top) * (right - left));
        }
}

static double sampled(const uint8_t *tensor, int y, int x, int step)
{
    return tensor[y * step * cxr_bundle.width + x * step];
}

static double change(const uint8_t *tensor, int y, int x, int step)
{
    const uint8_t *here = tensor + y * step * cxr_bundle.width + x;
    const int below = here[cxr_bundle.width + 1] - here[1], beside = here[1] - here[0];
    return (below < 0 ? -below : below) + (beside < 0 ? -beside : beside);
}

void cxr_look(int height, int width, double chroma, const uint8_t *tensor, cxr_seen *seen)
{
    const cxr_gate *gate = cxr_bundle.gate;
    const int cells = CXR_TEMPLATE_SIDE * CXR_TEMPLATE_SIDE;
    memset(seen, 0, sizeof *seen);
    if (!gate)
        return;
    const int shorter = height < width ? height : width, longer = height < width ? width : height;
    if (shorter < gate->min_side)
        seen->flags |= CXR_TOO_SMALL;
    if (longer > gate->max_aspect * shorter)
        seen->flags |= CXR_EXTREME_ASPECT;
    if (chroma > gate->max_chroma)
        seen->flags |= CXR_COLOUR;
    const int least = cxr_bundle.height < cxr_bundle.width ? cxr_bundle.height : cxr_bundle.width;
    const int step = least / 64 > 1 ? least / 64 : 1;
    const int rows = (cxr_bundle.height + step - 1) / step;
    const int columns = (cxr_bundle.width + step - 1) / step;
    double sum = 0, squares = 0, pure = 0;
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            const double value = sampled(tensor, y, x, step);
            sum += value;
            squares += value * value;
            pure += value == 0 || value == 255;
        }
    const double count = (double)rows * columns, mean = sum / count;
    const double variance = squares / count - mean * mean;
    if (sqrt(variance > 0 ? variance : 0) < gate->min_contrast)
        seen->flags |= CXR_LOW_CONTRAST;
    if (pure / count > gate->max_saturated)
        seen->flags |= CXR_SATURATED;
    double *means = seen->view, middle = 0, length = 0, correlation = 0;
    cell_means(tensor, sampled, rows, columns, step, CXR_TEMPLATE_SIDE, means);
    for (int i = 0; i < cells; i++)
        middle += means[i] / cells;
    for (int i = 0; i < cells; i++) {
        means[i] -= middle;
        length += means[i] * means[i];
    }
    length = sqrt(length);
    for (int i = 0; i < cells; i++) {
        means[i] /= length > 0 ? length : 1;
        correlation += means[i] * gate->template_[i];
        means[i] *= CXR_TEMPLATE_SIDE;
    }
    const double negative =
        gate->min_correlation > PLAINLY_NEGATIVE ? gate->min_correlation : PLAINLY_NEGATIVE;
    if (correlation < -negative)
        seen->flags |= CXR_INVERTED;
    else if (correlation < gate->min_correlation)
        seen->flags |= CXR_NOT_CHEST_LIKE;
    /* Rows 0, step, … of all but the last, each beside the row below it. */
    const int pairs = (cxr_bundle.height - 1 + step - 1) / step;
    double *detail = seen->view + cells;
    cell_means(tensor, change, pairs, cxr_bundle.width - 1, step, CXR_DETAIL_SIDE, detail);
    for (int i = 0; i < CXR_DETAIL_SIDE * CXR_DETAIL_SIDE; i++)
        detail[i] = log1p(detail[i]);
}

/* What is wrong with a film by its features and its distant view; 0 for nothing. */
static int oddity(const cxr_gate *gate, const cxr_seen *seen, const float *features)
{
    double scores[1 + CXR_MOST_KINDS], worst = 0;
    int found = 0;
    for (int kind = 0; kind <= gate->kinds; kind++)
        scores[kind] = gate->biases[kind] + dot_half(gate->weights + kind * cxr_bundle.features,
                                                     features, cxr_bundle.features);
    for (int unit = 0; unit < gate->hidden; unit++) {
        double activation = gate->hidden_biases[unit];
        const uint16_t *weights = gate->hidden_weights + unit * CXR_DISTANT_VIEW;
        for (int i = 0; i < CXR_DISTANT_VIEW; i++)
            activation += half(weights[i]) * seen->view[i];
        for (int kind = 0; activation > 0 && kind <= gate->kinds; kind++)
            scores[kind] += half(gate->view_weights[kind * gate->hidden + unit]) * activation;
    }
    for (int kind = 1; kind <= gate->kinds; kind++) {
        const double above = scores[kind] - scores[0] - gate->limits[kind - 1];
        if (above > worst) {
            worst = above;
            found = gate->flags[kind - 1];
        }
    }
    return found;
}

int cxr_weigh(const cxr_seen *seen, const float *features, int *accepted, double *distance)
{
    const cxr_gate *gate = cxr_bundle.gate;
    if (!gate) {
        *accepted = 1;
        *distance = 0;
        return 0;
    }
    double inside = 0, length = 0;
    for (int i = 0; i < cxr_bundle.features; i++) {
        const double centred = (double)features[i] - gate->mean[i];
        length += centred * centred;
    }
    for (int k = 0; k < gate->components; k++) {
        const uint16_t *basis = gate->basis + k * cxr_bundle.features;
        double coordinate = 0;
        for (int i = 0; i < cxr_bundle.features; i++)
            coordinate += half(basis[i]) * ((double)features[i] - gate->mean[i]);
        const double scale = gate->scales[k];
        inside += coordinate * coordinate *
                  (1 / (scale * scale * gate->components) - 1 / gate->residual);
    }
    const double score = (inside + length / gate->residual) / 2 / gate->limit;
    int flags = seen->flags;
    if (gate->kinds && (!flags || flags == CXR_NOT_CHEST_LIKE)) {
        const int odd = oddity(gate, seen, features);
        flags = odd ? odd : flags;
    }
    *accepted = !flags && score <= gate->refuse_above;
    if (!(score <= 1) && !(flags & CXR_INVERTED))
        flags |= CXR_OUT_OF_DISTRIBUTION;
    *distance = score;
    return flags;
}

const char *cxr_flag_name(int flag)
{
    static const char *const names[CXR_FLAGS] = {
        "too_small", "extreme_aspect", "colour",   "low_contrast", "saturated", "inverted",
        "not_chest_like", "rotated",  "mirrored", "incomplete",   "degraded",  "out_of_distribution",
    };
    for (int i = 0; i < CXR_FLAGS; i++)
        if (flag == 1 << i)
            return names[i];
    return NULL;
}
