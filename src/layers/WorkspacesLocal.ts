/**
 * Workspaces as folders below one folder of this machine: `<directory>/<agent>/<conversation>`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import { mkdir } from "node:fs/promises"
import { join, resolve } from "node:path"
import type { ConversationId } from "../services/Message.ts"
import { WorkspaceError, Workspaces } from "../services/Workspaces.ts"

/**
 * A conversation's folder name: its id where that is a plain name, and a digest, so that no two share a folder and no id
 * leads out of it.
 */
const folderName = (conversation: ConversationId): string => {
  const plain = conversation.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 40)
  return `${plain}-${createHash("sha256").update(conversation).digest("hex").slice(0, 12)}`
}

/**
 * Workspaces.
 *
 * Provides `Workspaces`, requires nothing. Folders stay on release.
 */
export const layer = (options: { readonly directory: string }): Layer.Layer<Workspaces> =>
  Layer.succeed(Workspaces, {
    folder: Effect.fn("Workspaces.folder")(function* (agent, conversation) {
      const folder = join(resolve(options.directory), agent, folderName(conversation))
      yield* Effect.tryPromise({
        try: () => mkdir(folder, { recursive: true, mode: 0o700 }),
        catch: (cause) => new WorkspaceError({ folder, detail: cause instanceof Error ? cause.message : String(cause) })
      })
      return folder
    })
  })
