/* Screens the files named on the command line through `cxr-edge pipe`.
 *
 *     cc -o pipe pipe.c && ./pipe FILE...
 *
 * Prints what each film's answer means; exit status 1 if a film was not judged. A program of your
 * own would hand the line to its JSON parser: a few strings are looked for here, which cannot be
 * mistaken, since a quotation mark inside of a JSON string has a backslash before it.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", *text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

/* Only a film with status "ok" says anything of the patient. 1 if it has that. */
static int tell(const char *file, const char *line)
{
    const char *decision = strstr(line, "\"decision\": \"");
    const char *flags = strstr(line, "\"flags\": [");
    if (strstr(line, "\"status\": \"rejected\"") && flags) {
        printf("%s: refused, no decision: %.*s\n", file, (int)strcspn(flags, "]") + 1, flags);
        return 0;
    }
    if (!strstr(line, "\"status\": \"ok\"") || !decision) {
        printf("%s: not screened: %s", file, line);
        return 0;
    }
    decision += strlen("\"decision\": \"");
    const int length = (int)strcspn(decision, "\"");
    const char *doubt = flags && flags[strlen("\"flags\": [")] != ']' ? ", have it read" : "";
    if (!strncmp(decision, "uncertain", (size_t)length))
        printf("%s: uncertain: a person has to read it%s\n", file, doubt);
    else
        printf("%s: %.*s%s\n", file, length, decision, doubt);
    return 1;
}

int main(int argc, char **argv)
{
    int request[2], response[2];
    if (pipe(request) || pipe(response)) {
        perror("pipe");
        return 1;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        dup2(request[0], STDIN_FILENO);
        dup2(response[1], STDOUT_FILENO);
        close(request[0]), close(request[1]), close(response[0]), close(response[1]);
        execlp("cxr-edge", "cxr-edge", "pipe", (char *)NULL);
        fputs("cxr-edge is not on the PATH: install it, or activate its environment\n", stderr);
        _exit(127);
    }
    close(request[0]);
    close(response[1]);
    FILE *out = fdopen(request[1], "w"), *in = fdopen(response[0], "r");
    if (!out || !in) {
        perror("fdopen");
        return 1;
    }
    char *line = NULL;
    size_t capacity = 0;
    int judged = 0;
    signal(SIGPIPE, SIG_IGN); /* if it ends early its exit status says why */
    for (int i = 1; i < argc; i++) {
        /* One question, one answer: nothing can block that way. */
        fprintf(out, "{\"id\": %d, \"path\": ", i);
        write_string(out, argv[i]);
        fputs("}\n", out);
        fflush(out);
        if (getline(&line, &capacity, in) < 0)
            break;
        judged += tell(argv[i], line);
    }
    fclose(out);
    fclose(in);
    free(line);
    int status = 1;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    return judged == argc - 1 ? 0 : 1;
}
